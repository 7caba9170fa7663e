// HugePageEvents: signs that the kernel has taken huge pages apart, or put them together.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// The kernel unmaps the pages of a file from every process when it splits a huge page of it
// (memory compaction, a hole, a bad page) or collapses small pages to a huge one (khugepaged,
// MADV_COLLAPSE). For a page that was not write-protected it leaves no trace in the page tables,
// and only counters of the whole host tell. A collapse is counted before it unmaps, a split after.
class HugePageEvents {
  public:
    // Errors: NotFound when the kernel does not count (then it has no huge pages either, or hides
    // them).
    static absl::StatusOr<HugePageEvents> open();

    // A sum that grows with each attempt, successful or not. Allocates nothing. Errors: pread's.
    absl::StatusOr<uint64_t> count();

  private:
    HugePageEvents() : text_(kTextBytes) {}
    // Into text_, from `offset` of both on; the bytes that came.
    absl::StatusOr<size_t> read(const UniqueFd& file, size_t offset);
    absl::StatusOr<uint64_t> count_vmstat();

    // /proc/vmstat has about 200 lines of 30 characters.
    static constexpr size_t kTextBytes = size_t{32} << 10;

    UniqueFd vmstat_;
    std::vector<UniqueFd> by_size_;  // one number each: folios smaller than 2 MiB (kernel 6.10)
    std::vector<char> text_;
};

// Whether MADV_NOHUGEPAGE keeps this kernel from mapping a huge page that is there by 2 MiB anew
// (Linux 6.12: do_set_pmd() looks at the advice).
bool huge_mappings_stay_away();

}  // namespace godwit
