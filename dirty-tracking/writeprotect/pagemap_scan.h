// PAGEMAP_SCAN: which pages of another process were written since they were write-protected,
// protecting them again in the same step (Documentation/admin-guide/mm/pagemap.rst, kernel 6.7).
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <vector>

#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// The kernel's layout of one answer.
struct PageRegion {
    uint64_t start = 0;
    uint64_t end = 0;
    uint64_t categories = 0;
};

// Owns /proc/PID/pagemap and a buffer of fixed size; allocates nothing after open(). Not
// thread-safe. It goes on meaning the process that it was opened for.
class PagemapScan {
  public:
    PagemapScan() = default;

    // `region_limit`: answers taken per system call; fewer mean more calls.
    // Errors: NotFound, PermissionDenied.
    static absl::StatusOr<PagemapScan> open(pid_t pid, size_t region_limit = kRegionLimit);

    // Write-protects the written pages of `range` again and calls visit(AddressRange) for each run
    // of them, in this order: what the visitor learns may be read at once. The whole range must be
    // registered for asynchronous write-protection. After an error an unknown part was protected
    // again and not reported: every page of the range counts as written.
    // Errors: Unavailable (transient: EINTR, EAGAIN, ENOMEM), FailedPrecondition (the kernel is
    // older than 6.7, or the range is not registered any more), Internal.
    template <typename Visit>
    absl::Status take_written(AddressRange range, Visit&& visit) {
        return visit_all(Find::kWritten, range, visit);
    }

    // The same without the pages that are not mapped: they are neither reported nor protected. A
    // page that was mapped by 2 MiB is reported (and protected) as 512. `range` must begin and end
    // at multiples of 2 MiB, or a huge mapping at its ends is dropped with what was known of it.
    template <typename Visit>
    absl::Status take_written_mapped(AddressRange range, Visit&& visit) {
        return visit_all(Find::kWrittenMapped, range, visit);
    }

    // Calls visit(AddressRange) for the pages that are mapped, written or not. Protects nothing.
    template <typename Visit>
    absl::Status find_mapped(AddressRange range, Visit&& visit) {
        return visit_all(Find::kMapped, range, visit);
    }

    // Calls visit(AddressRange) for the parts that are mapped by 2 MiB at once. Protects nothing.
    template <typename Visit>
    absl::Status find_huge(AddressRange range, Visit&& visit) {
        return visit_all(Find::kHuge, range, visit);
    }

    // A scan of memory that was unmapped, or of a process that ended, finds nothing and says
    // nothing: only these two, asked afterwards, tell.
    // Whether the page at `address` is mapped and registered for asynchronous write-protection.
    [[nodiscard]] bool is_registered(uint64_t address) const;
    // Whether the process has any memory.
    [[nodiscard]] bool memory_exists() const;

    // 96 KiB of answers: a whole scan of 64 MiB needs at most 8,192 (every second page).
    static constexpr size_t kRegionLimit = 4096;

  private:
    PagemapScan(UniqueFd pagemap, size_t region_limit)
        : pagemap_(std::move(pagemap)), regions_(region_limit) {}
    enum class Find { kWritten, kWrittenMapped, kMapped, kHuge };

    template <typename Visit>
    absl::Status visit_all(Find find, AddressRange range, Visit&& visit) {
        while (range.begin < range.end) {
            GODWIT_ASSIGN_OR_RETURN(const std::span<const PageRegion> regions, scan(find, range));
            for (const PageRegion& region : regions) visit(AddressRange{region.start, region.end});
        }
        return absl::OkStatus();
    }
    // One system call; moves range.begin behind what it has looked at.
    absl::StatusOr<std::span<const PageRegion>> scan(Find find, AddressRange& range);

    UniqueFd pagemap_;
    std::vector<PageRegion> regions_;
};

// Whether this kernel has PAGEMAP_SCAN, tried on the calling process. Error: FailedPrecondition.
absl::Status check_pagemap_scan();

}  // namespace godwit
