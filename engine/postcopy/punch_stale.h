// Stale pages are taken out of the RAM file, so that touching them faults.
#pragma once

#include "engine/base/ram_block.h"
#include "transport/frame/pages_body.h"

namespace godwit {

struct PunchTotals {
    uint64_t call_count = 0;   // FALLOC_FL_PUNCH_HOLE
    uint64_t stale_pages = 0;  // asked for
    uint64_t run_count = 0;    // of stale pages
    uint64_t absent_runs = 0;  // of these: nothing was there
    uint64_t retry_count = 0;  // a folio was referenced by somebody
};

// The pages that go when `pages` are to go: on hugetlbfs all of the chunk, elsewhere these.
ChunkMask whole_granules(const RamBlock& block, const ChunkMask& pages);

// Punches whole_granules() of one chunk out of the file, and makes sure that they are gone. Their
// bits must be set in MissingPages before. `totals` is added to.
//
// A folio that somebody references (a pinned page, a page that is being moved) is zeroed by the
// kernel instead of split, stays present, and would never fault: tried again some times.
//
// Errors: FailedPrecondition when a page can't be got rid of; InvalidArgument when the chunk does
// not exist; fallocate's and lseek's. After an error the migration must not go on to COMMIT.
absl::Status punch_stale(const RamBlock& block, ChunkIndex chunk, const ChunkMask& pages,
                         PunchTotals& totals);

}  // namespace godwit
