#include "dirty-tracking/writeprotect/pagemap_scan.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "engine/base/units.h"

namespace godwit {
namespace {

// The argument of the ioctl, by the kernel's documentation; Debian 12's headers are older.
struct ScanArgument {
    uint64_t size = sizeof(ScanArgument);
    uint64_t flags = 0;
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t walk_end = 0;
    uint64_t regions = 0;
    uint64_t region_count = 0;
    uint64_t max_pages = 0;
    uint64_t category_inverted = 0;
    uint64_t category_mask = 0;
    uint64_t category_anyof_mask = 0;
    uint64_t return_mask = 0;
};
static_assert(sizeof(ScanArgument) == 96);

constexpr unsigned long kPagemapScan = _IOWR('f', 16, ScanArgument);
constexpr uint64_t kWriteProtectMatching = 1;
constexpr uint64_t kCheckAsync = 2;
constexpr uint64_t kWriteProtectAllowed = 1;
constexpr uint64_t kWritten = 2;
constexpr uint64_t kFile = 4;
constexpr uint64_t kPresent = 8;
constexpr uint64_t kSwapped = 16;
constexpr uint64_t kHuge = 64;

constexpr const char* kNeedsKernel = "PAGEMAP_SCAN: {}; kernel 6.7 or newer is needed";

absl::Status scan_failed(int error_number) {
    switch (error_number) {
        case EINTR:
        case EAGAIN:
        case ENOMEM:
            return absl::UnavailableError(errno_status(error_number, "PAGEMAP_SCAN").message());
        case ENOTTY:
        case EINVAL:
            return absl::FailedPreconditionError(
                fmt::format(fmt::runtime(kNeedsKernel), strerrorname_np(error_number)));
        case EPERM:
            return absl::FailedPreconditionError(
                "PAGEMAP_SCAN: EPERM; the memory is not registered for write-protection any more "
                "(did QEMU map it anew?)");
        default:
            return absl::InternalError(errno_status(error_number, "PAGEMAP_SCAN").message());
    }
}

}  // namespace

absl::StatusOr<PagemapScan> PagemapScan::open(pid_t pid, size_t region_limit) {
    const std::string path = fmt::format("/proc/{}/pagemap", pid);
    UniqueFd pagemap(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!pagemap.valid()) return errno_status(errno, fmt::format("open of {}", path));
    return PagemapScan(std::move(pagemap), region_limit);
}

absl::StatusOr<std::span<const PageRegion>> PagemapScan::scan(Find find, AddressRange& range) {
    ScanArgument argument{.flags = kWriteProtectMatching | kCheckAsync,
                          .start = range.begin,
                          .end = range.end,
                          .regions = reinterpret_cast<uintptr_t>(regions_.data()),
                          .region_count = regions_.size(),
                          .category_mask = kWritten,
                          .return_mask = kWritten};
    switch (find) {
        case Find::kWritten:
            // With exactly this mask the kernel counts a page as written when it is not protected,
            // also when it was paged out or unmapped meanwhile (fs/proc/task_mmu.c, the fast path
            // for WRITTEN).
            break;
        case Find::kWrittenMapped:
            // A page that is being moved to another place has a swap entry: with PRESENT alone it
            // would be missed, by the last scan for ever.
            argument.category_anyof_mask = kPresent | kSwapped;
            break;
        case Find::kMapped:
            // Neither PRESENT (pages that are being moved) nor SWAPPED (the marks of pages that
            // were protected without being mapped count as such): FILE is both and no mark.
            argument.flags = 0;
            argument.category_mask = argument.return_mask = kFile;
            break;
        case Find::kHuge:
            argument.flags = 0;
            argument.category_mask = argument.return_mask = kHuge;
            break;
    }
    const int count = ::ioctl(pagemap_.get(), kPagemapScan, &argument);
    if (count < 0) return scan_failed(errno);
    const auto found = static_cast<size_t>(count);
    // walk_end may lie behind the end of a complete walk; only a full answer is a short one.
    if (found < regions_.size()) {
        range.begin = range.end;
    } else if (argument.walk_end > range.begin && argument.walk_end <= range.end) {
        range.begin = argument.walk_end;
    } else {
        return absl::InternalError("PAGEMAP_SCAN did not move on");
    }
    return std::span<const PageRegion>(regions_.data(), found);
}

bool PagemapScan::is_registered(uint64_t address) const {
    PageRegion region;
    ScanArgument argument{.start = address,
                          .end = address + kPageBytes,
                          .regions = reinterpret_cast<uintptr_t>(&region),
                          .region_count = 1,
                          .category_mask = kWriteProtectAllowed,
                          .return_mask = kWriteProtectAllowed};
    return ::ioctl(pagemap_.get(), kPagemapScan, &argument) == 1;
}

bool PagemapScan::memory_exists() const {
    uint64_t entry = 0;  // of page 0: the file has no end but that of the process
    return ::pread(pagemap_.get(), &entry, sizeof entry, 0) == static_cast<ssize_t>(sizeof entry);
}

absl::Status check_pagemap_scan() {
    UniqueFd pagemap(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
    if (!pagemap.valid()) return errno_status(errno, "open of /proc/self/pagemap");
    PageRegion region;
    const uint64_t page = reinterpret_cast<uintptr_t>(&region) & ~(kPageBytes - 1);
    ScanArgument argument{.start = page,
                          .end = page + kPageBytes,
                          .regions = reinterpret_cast<uintptr_t>(&region),
                          .region_count = 1,
                          .category_mask = kWritten,
                          .return_mask = kWritten};
    if (::ioctl(pagemap.get(), kPagemapScan, &argument) >= 0) return absl::OkStatus();
    return scan_failed(errno);
}

}  // namespace godwit
