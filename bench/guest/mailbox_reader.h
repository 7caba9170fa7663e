// MailboxReader: reads the test guest's mailbox out of its RAM.
#pragma once

#include <sys/types.h>

#include <string>

#include "bench/guest/mailbox_layout.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// Reads with pread, so looking into a RAM file allocates no page and triggers no userfaultfd.
// Thread-safe.
class MailboxReader {
  public:
    // Opens the RAM file of the guest. Errors: open's.
    static absl::StatusOr<MailboxReader> open(const std::string& path);
    // The same in private RAM: the mailbox's page is at `address` in that process. A page that is
    // not there is made by looking, or waited for where a userfaultfd serves it. Errors: open's.
    static absl::StatusOr<MailboxReader> open_process(pid_t pid, uint64_t address);

    // The mailbox as it is now. The guest goes on writing meanwhile: each field is whole, but two
    // fields may be from different moments. Errors: FailedPrecondition when there is no mailbox
    // (yet) or it is of another version; OutOfRange when the file is too short; pread's.
    [[nodiscard]] absl::StatusOr<Mailbox> read() const;

  private:
    MailboxReader(UniqueFd file, uint64_t offset) : file_(std::move(file)), offset_(offset) {}
    UniqueFd file_;
    uint64_t offset_;
};

}  // namespace godwit
