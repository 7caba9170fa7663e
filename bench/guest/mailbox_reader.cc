#include "bench/guest/mailbox_reader.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>

#include "engine/base/ram_block.h"

namespace godwit {

absl::StatusOr<MailboxReader> MailboxReader::open(const std::string& path) {
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot open the RAM file {}", path));
    return MailboxReader(std::move(file), kMailboxAddress);
}

absl::StatusOr<MailboxReader> MailboxReader::open_process(pid_t pid, uint64_t address) {
    const std::string path = fmt::format("/proc/{}/mem", pid);
    UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot open {}", path));
    return MailboxReader(std::move(file), address);
}

absl::StatusOr<Mailbox> MailboxReader::read() const {
    Mailbox mailbox;
    GODWIT_RETURN_IF_ERROR(annotate(read_fully(file_.get(), &mailbox, sizeof mailbox, offset_),
                                    "Cannot read the guest's mailbox"));
    if (mailbox.magic != kMailboxMagic)
        return absl::FailedPreconditionError(
            "There is no mailbox in the RAM file: the guest has not started, or is another one");
    if (mailbox.version != kMailboxVersion)
        return absl::FailedPreconditionError(
            fmt::format("The guest's mailbox has version {}, this program knows {}: rebuild both",
                        mailbox.version, kMailboxVersion));
    return mailbox;
}

}  // namespace godwit
