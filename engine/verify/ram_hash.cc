#include "engine/verify/ram_hash.h"

#include <algorithm>
#include <atomic>
#include <thread>

#include "engine/base/mapping.h"

namespace godwit {
namespace {

struct ChunkName {
    BlockIndex block;
    ChunkIndex chunk;
};

absl::StatusOr<std::vector<ChunkName>> chunks_with_data(std::span<const RamBlock> blocks) {
    std::vector<ChunkName> chunks;
    for (BlockIndex b = 0; b < blocks.size(); ++b) {
        ChunkIndex next = 0;
        GODWIT_RETURN_IF_ERROR(
            for_each_data_extent(blocks[b].file.get(), blocks[b].size, [&](PageRange extent) {
                const ChunkIndex end = (extent.end + kPagesPerChunk - 1) / kPagesPerChunk;
                for (next = std::max(next, extent.begin / kPagesPerChunk); next < end; ++next)
                    chunks.push_back({b, next});
            }));
    }
    return chunks;
}

}  // namespace

absl::StatusOr<std::vector<ChunkHash>> hash_ram(std::span<const RamBlock> blocks, int threads) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<ChunkName> chunks, chunks_with_data(blocks));
    std::vector<ChunkHash> hashes(chunks.size());
    std::vector<char> present(chunks.size());
    std::vector<absl::Status> outcomes(static_cast<size_t>(std::max(threads, 1)));
    std::atomic<size_t> next{0};
    const auto work = [&](size_t worker) {
        absl::StatusOr<Mapping> buffer = Mapping::anonymous(kChunkBytes);
        if (!buffer.ok()) {
            outcomes[worker] = buffer.status();
            return;
        }
        for (size_t i = next++; i < chunks.size(); i = next++) {
            const RamBlock& block = blocks[chunks[i].block];
            outcomes[worker] = read_fully(block.file.get(), buffer->data(), kChunkBytes,
                                          chunks[i].chunk * kChunkBytes);
            if (!outcomes[worker].ok()) return;
            present[i] = !is_zero(buffer->bytes());
            hashes[i] = {chunks[i].block, chunks[i].chunk, hash_bytes(buffer->bytes())};
        }
    };
    {
        std::vector<std::jthread> workers;
        for (size_t i = 1; i < outcomes.size(); ++i) workers.emplace_back(work, i);
        work(0);
    }
    for (const absl::Status& outcome : outcomes) GODWIT_RETURN_IF_ERROR(outcome);
    std::vector<ChunkHash> result;
    for (size_t i = 0; i < chunks.size(); ++i)
        if (present[i]) result.push_back(hashes[i]);
    return result;
}

absl::StatusOr<std::vector<Hash128>> hash_pages(const RamBlock& block, ChunkIndex chunk) {
    GODWIT_ASSIGN_OR_RETURN(const Mapping buffer, Mapping::anonymous(kChunkBytes));
    GODWIT_RETURN_IF_ERROR(
        read_fully(block.file.get(), buffer.data(), kChunkBytes, chunk * kChunkBytes));
    std::vector<Hash128> hashes;
    hashes.reserve(kPagesPerChunk);
    for (size_t page = 0; page < kPagesPerChunk; ++page)
        hashes.push_back(hash_bytes(buffer.bytes().subspan(page * kPageBytes, kPageBytes)));
    return hashes;
}

std::vector<std::pair<BlockIndex, ChunkIndex>> differing_chunks(std::span<const ChunkHash> a,
                                                                std::span<const ChunkHash> b) {
    std::vector<std::pair<BlockIndex, ChunkIndex>> different;
    const auto name = [](const ChunkHash& hash) { return std::pair(hash.block, hash.chunk); };
    size_t i = 0, k = 0;
    while (i < a.size() || k < b.size()) {
        if (k == b.size() || (i < a.size() && name(a[i]) < name(b[k]))) {
            different.push_back(name(a[i++]));
        } else if (i == a.size() || name(b[k]) < name(a[i])) {
            different.push_back(name(b[k++]));
        } else {
            if (a[i].hash != b[k].hash) different.push_back(name(a[i]));
            ++i;
            ++k;
        }
    }
    return different;
}

absl::StatusOr<uint64_t> allocated_pages(std::span<const RamBlock> blocks) {
    uint64_t pages = 0;
    for (const RamBlock& block : blocks)
        GODWIT_RETURN_IF_ERROR(for_each_data_extent(
            block.file.get(), block.size, [&](PageRange extent) { pages += extent.count(); }));
    return pages;
}

}  // namespace godwit
