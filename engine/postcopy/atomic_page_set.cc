#include "engine/postcopy/atomic_page_set.h"

namespace godwit {

ChunkMask AtomicPageWords::chunk(ChunkIndex chunk) const {
    ChunkMask mask{};
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = load(chunk * mask.size() + i);
    return mask;
}

AtomicPageSet::AtomicPageSet(std::span<const RamBlock> blocks) {
    for (const RamBlock& block : blocks) add_block(block.page_count());
}

AtomicPageSet::AtomicPageSet(std::span<const uint64_t> page_counts) {
    for (const uint64_t count : page_counts) add_block(count);
}

void AtomicPageSet::add_block(uint64_t page_count) {
    // Whole chunks: a mask is eight words.
    const uint64_t chunks = (page_count + kPagesPerChunk - 1) / kPagesPerChunk;
    blocks_.emplace_back(chunks * kPagesPerChunk / 64);
    views_.emplace_back(blocks_.back());
}

}  // namespace godwit
