// Pages that come into a chunk while others of it are missing: they alone become present.
#pragma once

#include "engine/postcopy/fault_memory.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Puts the newest content of pages that are not missing in place, while the guest does not run here
// yet. A page that is there is overwritten; one that is not is filled by itself: a write into huge
// tmpfs would make its missing neighbours present too. A zero page that is not there stays so. One
// chunk by one thread at a time; not for hugetlbfs, where a chunk is missing as a whole.
//
// `raw`: whole pages, of those of `present` that are not in `zero`, ascending. Errors: lseek's,
// write's, FaultMemory::fill's.
absl::Status put_beside_missing(FaultMemory& memory, BlockIndex block, ChunkIndex chunk,
                                const ChunkMask& present, const ChunkMask& zero,
                                std::span<const std::byte> raw);

}  // namespace godwit
