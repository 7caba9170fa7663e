#include "engine/postcopy/page_server.h"

#include <fmt/format.h>

#include <cstring>

#include "engine/base/hash.h"
#include "engine/postcopy/mask_runs.h"

namespace godwit {

PageServer::PageServer(std::span<const RamBlock> blocks, PendingPages& pending, PageSink& sink,
                       uint32_t prepaging_limit, Mapping buffer)
    : blocks_(blocks),
      pending_(pending),
      sink_(sink),
      prepager_(prepaging_limit),
      buffer_(std::move(buffer)) {}

absl::StatusOr<std::unique_ptr<PageServer>> PageServer::create(std::span<const RamBlock> blocks,
                                                               PendingPages& pending,
                                                               PageSink& sink,
                                                               uint32_t prepaging_limit) {
    GODWIT_ASSIGN_OR_RETURN(Mapping buffer, Mapping::anonymous(kChunkBytes));
    std::memset(buffer.data(), 0, buffer.size());  // its memory is there before a fault needs it
    return std::unique_ptr<PageServer>(
        new PageServer(blocks, pending, sink, prepaging_limit, std::move(buffer)));
}

absl::Status PageServer::answer(BlockIndex block, PageIndex page) {
    if (block >= blocks_.size() || page >= blocks_[block].page_count())
        return absl::InvalidArgumentError(fmt::format(
            "a request for page {} of RAM block {}, which does not exist", page, block));
    const ChunkIndex chunk = page / kPagesPerChunk;
    if (blocks_[block].backing == Backing::kHugetlb2M) {
        ChunkMask all;
        all.fill(~uint64_t{0});
        pending_.take_chunk(block, chunk);
        return send(block, chunk, all, PageOrigin::kDemand);
    }
    ChunkMask wanted{};
    wanted[page % kPagesPerChunk / 64] = uint64_t{1} << (page % 64);
    pending_.take_run(block, page, 1);
    GODWIT_RETURN_IF_ERROR(send(block, chunk, wanted, PageOrigin::kDemand));
    const uint32_t more = prepager_.next(block, page);
    const PageIndex from = page + 1;
    if (more == 0 || from >= blocks_[block].page_count()) return absl::OkStatus();
    const ChunkMask following =
        pending_.take_following(block, from, uint64_t{more} * Prepager::kSpread, more);
    if (following == ChunkMask{}) return absl::OkStatus();
    return send(block, from / kPagesPerChunk, following, PageOrigin::kPrepaging);
}

absl::Status PageServer::send(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages,
                              PageOrigin origin) {
    PageAnswer answer{.block = block, .chunk = chunk, .present = pages, .origin = origin};
    size_t kept = 0;
    absl::Status outcome;
    for (size_t word = 0; word < pages.size(); ++word) {
        visit_runs(pages[word], [&](uint32_t first, uint32_t count) {
            std::byte* read = buffer_.data() + kept;
            outcome = read_fully(blocks_[block].file.get(), read, count * kPageBytes,
                                 chunk * kChunkBytes + (word * 64 + first) * kPageBytes);
            if (!outcome.ok()) return false;
            for (uint32_t page = first; page < first + count; ++page, read += kPageBytes) {
                if (is_zero({read, kPageBytes})) {
                    answer.zero[word] |= uint64_t{1} << page;
                    continue;
                }
                if (buffer_.data() + kept != read)
                    std::memmove(buffer_.data() + kept, read, kPageBytes);
                kept += kPageBytes;
            }
            return true;
        });
        GODWIT_RETURN_IF_ERROR(annotate(outcome, "Cannot read guest memory"));
    }
    answer.bytes = {buffer_.data(), kept};
    return sink_.send(answer);
}

}  // namespace godwit
