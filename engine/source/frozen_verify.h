// Verify of a post-copy migration: the source's frozen RAM against what was sent before the freeze.
#pragma once

#include <span>
#include <stop_token>
#include <string>

#include "engine/base/page_bitmap.h"
#include "engine/base/ram_block.h"
#include "engine/source/page_hash_table.h"

namespace godwit {

struct FrozenVerify {
    uint64_t page_count = 0;  // compared
    uint64_t mismatches = 0;
    std::string first;  // where the first is
};

// Hashes every page that the destination had before the freeze and that is not in `missing` (those
// are sent from the frozen memory itself), and compares it with the hash of what was sent last and
// confirmed. So a write that the tracker lost is found without a word to the destination.
// `holes_are_equal`: a page of zeros counts as equal, where a device gives memory back unseen.
// Errors: read's; Cancelled.
absl::StatusOr<FrozenVerify> verify_frozen(std::span<const RamBlock> blocks,
                                           const PageHashTable& sent, const PageSet& missing,
                                           bool holes_are_equal, const std::stop_token& stop);

}  // namespace godwit
