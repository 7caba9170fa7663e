#include "dirty-tracking/resident/dirty_marks.h"

#include <algorithm>

namespace godwit::resident {
namespace {

void add(const Block& block, uint64_t index, uint64_t mask) {
    if (mask != 0) __atomic_fetch_or(&block.dirty[index], mask, __ATOMIC_SEQ_CST);
}

}  // namespace

void mark_pages(const Block& block, uint64_t begin, uint64_t end) {
    end = std::min(end, block.page_count);
    for (uint64_t i = begin / 64; i * 64 < end; ++i) add(block, i, mask_of(i, begin, end));
}

void mark_words(const Block& block, const Slot& slot, uint64_t first_page, const uint64_t* mask,
                uint64_t word_count) {
    const uint64_t first = slot.first_file_page() + first_page;
    const uint64_t shift = first % 64;
    for (uint64_t i = 0; i < word_count; ++i) {
        if (mask[i] == 0) continue;
        const uint64_t index = first / 64 + i;
        add(block, index, mask[i] << shift & mask_of(index, 0, block.page_count));
        if (shift != 0)
            add(block, index + 1,
                mask[i] >> (64 - shift) & mask_of(index + 1, 0, block.page_count));
    }
}

void mark_slot(const Slot& slot) {
    if (slot.block < 0) return;
    const uint64_t first = slot.first_file_page();
    mark_pages(g_state.log.blocks[slot.block], first, first + slot.page_count());
}

}  // namespace godwit::resident
