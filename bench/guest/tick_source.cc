#include "bench/guest/tick_source.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <filesystem>

#include "bench/guest/mailbox_layout.h"
#include "engine/base/ram_block.h"

namespace godwit {
namespace {

// How often a RAM file that shows nothing new is looked up by name again: it may have been made, or
// removed and made anew, since.
constexpr std::chrono::milliseconds kLookAgainAfter{5};
// Documentation/admin-guide/mm/pagemap.rst
constexpr uint64_t kPagePresent = uint64_t{1} << 63;

// The vCPUs' part of the mailbox at `mailbox` in `fd`.
uint64_t largest_tick(int fd, uint64_t mailbox) {
    std::array<MailboxVcpu, kMaxVcpus> vcpus;
    if (!read_fully(fd, vcpus.data(), sizeof vcpus, mailbox + offsetof(Mailbox, vcpus)).ok())
        return 0;
    uint64_t tick = 0;
    for (const MailboxVcpu& vcpu : vcpus) tick = std::max(tick, vcpu.tick);
    return tick;
}

}  // namespace

uint64_t FileTicks::read_tick(MonotonicTime now) {
    if (now >= look_again_) look(now);
    if (!file_.valid()) return 0;
    const uint64_t tick = largest_tick(file_.get(), kMailboxAddress);
    if (tick > largest_) look_again_ = now + kLookAgainAfter;
    largest_ = std::max(largest_, tick);
    return tick;
}

void FileTicks::look(MonotonicTime now) {
    look_again_ = now + kLookAgainAfter;
    struct stat info {};
    if (::stat(path_.c_str(), &info) != 0) return;
    if (file_.valid() && info.st_ino == inode_ && info.st_dev == device_) return;
    file_.reset(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
    inode_ = info.st_ino;
    device_ = info.st_dev;
}

uint64_t DirectoryTicks::read_tick(MonotonicTime now) {
    if (file_) return file_->read_tick(now);
    if (now < look_again_) return 0;
    look_again_ = now + kLookAgainAfter;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(directory_, error)) {
        const std::string name = entry.path().filename().string();
        if (name.starts_with(prefix_) && name.ends_with(suffix_))
            file_ = std::make_unique<FileTicks>(entry.path().string());
    }
    return file_ ? file_->read_tick(now) : 0;
}

bool ProcessTicks::show(pid_t pid, uint64_t address) {
    UniqueFd memory(::open(fmt::format("/proc/{}/mem", pid).c_str(), O_RDONLY | O_CLOEXEC));
    UniqueFd pagemap(::open(fmt::format("/proc/{}/pagemap", pid).c_str(), O_RDONLY | O_CLOEXEC));
    const bool both = memory.valid() && pagemap.valid();
    const std::lock_guard lock(mutex_);
    memory_ = std::move(memory);
    pagemap_ = std::move(pagemap);
    address_ = address;
    return both;
}

uint64_t ProcessTicks::read_tick(MonotonicTime) {
    const std::lock_guard lock(mutex_);
    if (!memory_.valid() || !pagemap_.valid()) return 0;
    uint64_t entry = 0;
    if (!read_fully(pagemap_.get(), &entry, sizeof entry, address_ / kGuestPageBytes * sizeof entry)
             .ok() ||
        (entry & kPagePresent) == 0)
        return 0;
    return largest_tick(memory_.get(), address_);
}

}  // namespace godwit
