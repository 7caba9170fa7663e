// Hashes of all guest RAM, for the proof that both sides hold the same bytes.
#pragma once

#include <span>
#include <vector>

#include "engine/base/hash.h"
#include "engine/base/ram_block.h"

namespace godwit {

struct ChunkHash {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    Hash128 hash;
    bool operator==(const ChunkHash&) const = default;
};

// XXH3-128 of every chunk that is not all zero, in ascending order of (block, chunk); holes are
// read as zeros and stay holes. Reads with pread, on `threads` threads. Errors: read's.
absl::StatusOr<std::vector<ChunkHash>> hash_ram(std::span<const RamBlock> blocks, int threads);

// XXH3-128 of each of the chunk's 512 pages.
absl::StatusOr<std::vector<Hash128>> hash_pages(const RamBlock& block, ChunkIndex chunk);

// The chunks whose hashes differ, or that only one side has: (block, chunk), ascending.
std::vector<std::pair<BlockIndex, ChunkIndex>> differing_chunks(std::span<const ChunkHash> a,
                                                                std::span<const ChunkHash> b);

// Pages in the files' allocated extents.
absl::StatusOr<uint64_t> allocated_pages(std::span<const RamBlock> blocks);

}  // namespace godwit
