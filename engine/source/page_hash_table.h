// PageHashTable: what the destination holds for each page, as a hash.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/hash.h"
#include "engine/base/ram_block.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// 16 B per page, allocated for chunks that were touched only. The hash {0, 0} stands for a page of
// zeros, which is what a fresh destination holds everywhere. Chunks may be used by different
// threads at once (a chunk belongs to one stream); one chunk by one thread.
class PageHashTable {
  public:
    using Chunk = std::array<Hash128, kPagesPerChunk>;

    explicit PageHashTable(std::span<const RamBlock> blocks);

    // The chunk's hashes, made on first use.
    Chunk& chunk(BlockIndex block, ChunkIndex index);
    // What the destination holds of these pages is not known any more: no content equals it.
    void forget(BlockIndex block, ChunkIndex index, const ChunkMask& pages);
    [[nodiscard]] bool has(BlockIndex block, ChunkIndex index) const {
        return chunks_[block][index] != nullptr;
    }
    // Of a page of a chunk that may not be there: then it is one of zeros.
    [[nodiscard]] Hash128 of(BlockIndex block, PageIndex page) const {
        const auto& chunk = chunks_[block][page / kPagesPerChunk];
        return chunk ? (*chunk)[page % kPagesPerChunk] : Hash128{};
    }

  private:
    std::vector<std::vector<std::unique_ptr<Chunk>>> chunks_;
};

}  // namespace godwit
