#include "engine/source/frozen_verify.h"

#include <fmt/format.h>

#include <vector>

#include "engine/base/hash.h"

namespace godwit {
namespace {

// Whether the file holds anything of the chunk.
absl::StatusOr<bool> has_data(const RamBlock& block, ChunkIndex chunk) {
    const Bytes end = (chunk + 1) * kChunkBytes;
    GODWIT_ASSIGN_OR_RETURN(const Bytes data,
                            find_data(block.file.get(), chunk * kChunkBytes, end));
    return data < end;
}

}  // namespace

absl::StatusOr<FrozenVerify> verify_frozen(std::span<const RamBlock> blocks,
                                           const PageHashTable& sent, const PageSet& missing,
                                           bool holes_are_equal, const std::stop_token& stop) {
    FrozenVerify result;
    std::vector<std::byte> bytes(kChunkBytes);
    for (BlockIndex b = 0; b < blocks.size(); ++b) {
        for (ChunkIndex chunk = 0; chunk < blocks[b].chunk_count(); ++chunk) {
            if (stop.stop_requested()) return absl::CancelledError("verify was stopped");
            // Never sent and nothing there: zeros on both sides.
            if (!sent.has(b, chunk)) {
                GODWIT_ASSIGN_OR_RETURN(const bool data, has_data(blocks[b], chunk));
                if (!data) continue;
            }
            const PageIndex first = chunk * kPagesPerChunk;
            if (missing[b].count_range({first, first + kPagesPerChunk}) == kPagesPerChunk) continue;
            GODWIT_RETURN_IF_ERROR(
                read_fully(blocks[b].file.get(), bytes.data(), kChunkBytes, chunk * kChunkBytes));
            for (size_t i = 0; i < kPagesPerChunk; ++i) {
                if (missing[b].test(first + i)) continue;
                const auto page =
                    std::span<const std::byte>(bytes).subspan(i * kPageBytes, kPageBytes);
                const Hash128 hash = is_zero(page) ? Hash128{} : hash_bytes(page);
                ++result.page_count;
                if (hash == sent.of(b, first + i)) continue;
                if (holes_are_equal && hash == Hash128{}) continue;
                if (result.mismatches++ == 0)
                    result.first = fmt::format("block {}, page {}", blocks[b].name, first + i);
            }
        }
    }
    return result;
}

}  // namespace godwit
