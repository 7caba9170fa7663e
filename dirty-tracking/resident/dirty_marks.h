// Setting bits in the bitmaps that the agent shares with us. Under the state's lock; the agent
// takes words at the same time.
#pragma once

#include <cstdint>

#include "dirty-tracking/resident/state.h"

namespace godwit::resident {

// Pages of the block's file; what lies past its end is left out.
void mark_pages(const Block& block, uint64_t begin, uint64_t end);

// The pages of `mask`, whose bit 0 of word 0 is page `first_page` of the slot.
void mark_words(const Block& block, const Slot& slot, uint64_t first_page, const uint64_t* mask,
                uint64_t word_count);

// The whole slot, if it belongs to a logged block.
void mark_slot(const Slot& slot);

}  // namespace godwit::resident
