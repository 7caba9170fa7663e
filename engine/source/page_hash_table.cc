#include "engine/source/page_hash_table.h"

namespace godwit {

PageHashTable::PageHashTable(std::span<const RamBlock> blocks) {
    for (const RamBlock& block : blocks) chunks_.emplace_back(block.chunk_count());
}

PageHashTable::Chunk& PageHashTable::chunk(BlockIndex block, ChunkIndex index) {
    std::unique_ptr<Chunk>& chunk = chunks_[block][index];
    if (!chunk) chunk = std::make_unique<Chunk>();
    return *chunk;
}

}  // namespace godwit
