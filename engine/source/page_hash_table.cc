#include "engine/source/page_hash_table.h"

#include <algorithm>

namespace godwit {

PageHashTable::PageHashTable(std::span<const RamBlock> blocks) {
    for (const RamBlock& block : blocks) chunks_.emplace_back(block.chunk_count());
}

PageHashTable::Chunk& PageHashTable::chunk(BlockIndex block, ChunkIndex index) {
    std::unique_ptr<Chunk>& chunk = chunks_[block][index];
    if (!chunk) chunk = std::make_unique<Chunk>();
    return *chunk;
}

void PageHashTable::forget(BlockIndex block, ChunkIndex index, const ChunkMask& pages) {
    constexpr Hash128 kUnknown{~uint64_t{0}, ~uint64_t{0}};
    Chunk& hashes = chunk(block, index);
    for_each_run(pages, [&](PageRange run) {
        std::fill(hashes.begin() + run.begin, hashes.begin() + run.end, kUnknown);
    });
}

}  // namespace godwit
