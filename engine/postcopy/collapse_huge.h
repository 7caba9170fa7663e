// After the drain: the small pages that came one by one are put together to huge ones again.
#pragma once

#include <sys/types.h>

#include <span>
#include <stop_token>

#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/ram_block.h"

namespace godwit {

// Has the kernel collapse (MADV_COLLAPSE) each chunk of a block on huge tmpfs that is at least half
// there, in every view; what is missing of it becomes zeros in memory. For about 0.2 ms each the
// guest waits if it touches a chunk at that time. Best effort: a chunk that can't be collapsed now
// is left as it is. Returns the bytes of the file that are mapped by huge pages afterwards as far
// as we did it; 0 for other backings. Must not run while pages are missing.
Bytes collapse_huge(pid_t pid, const RamBlock& block, std::span<const RamMapping> mappings,
                    const std::stop_token& stop = {});

}  // namespace godwit
