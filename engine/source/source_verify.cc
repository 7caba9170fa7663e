#include "engine/source/source_verify.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/verify/ram_hash.h"
#include "transport/frame/bodies.h"

namespace godwit {
namespace {

constexpr int kHashThreads = 2;
// Pages of a differing chunk are named one by one, up to this many chunks.
constexpr size_t kMaxNamedChunks = 64;

// Sends a question on the urgent stream and returns the answer's body.
absl::StatusOr<FrameBytes> ask(SourceContext& context, FrameKind kind, const FrameBytes& body,
                               MonotonicTime deadline) {
    const uint64_t before = context.signals.seen().verify_replies;
    context.streams->expect_verify_reply();
    GODWIT_RETURN_IF_ERROR(context.streams->urgent().send(kind, body));
    GODWIT_RETURN_IF_ERROR(
        context.signals
            .wait("verify", SourceSignals::Mind::kAll, deadline,
                  [&](const SourceSignals::Seen& seen) { return seen.verify_replies > before; })
            .status());
    std::vector<FrameBytes> replies = context.streams->take_verify_replies();
    if (replies.size() != 1) return absl::InternalError("verify: answers out of step");
    return std::move(replies.front());
}

// Which chunks of a block differ, asked for in frames of at most kMaxVerifyChunks.
absl::StatusOr<std::vector<ChunkIndex>> compare_block(SourceContext& context, BlockIndex block,
                                                      std::span<const Hash128> hashes,
                                                      MonotonicTime deadline) {
    const std::vector<uint64_t> counts = chunk_counts(context.vm.ram_blocks());
    std::vector<ChunkIndex> different;
    for (size_t first = 0; first < hashes.size(); first += kMaxVerifyChunks) {
        const auto part =
            hashes.subspan(first, std::min<size_t>(kMaxVerifyChunks, hashes.size() - first));
        const VerifyChunksBody question{
            .block = block, .first_chunk = first, .hashes = {part.begin(), part.end()}};
        GODWIT_ASSIGN_OR_RETURN(const FrameBytes answer, ask(context, FrameKind::kVerifyChunks,
                                                             question.encode(), deadline));
        GODWIT_ASSIGN_OR_RETURN(const VerifyResultBody result,
                                VerifyResultBody::decode(answer, counts));
        different.insert(different.end(), result.different.begin(), result.different.end());
    }
    return different;
}

struct PageDifference {
    uint64_t pages = 0;
    PageIndex first = 0;
};

// The differing pages of a chunk. Where a device gives memory back (balloon) and the tracker does
// not see it, a page that is zero at the source counts as equal: the guest can't rely on its
// content.
absl::StatusOr<PageDifference> compare_chunk(SourceContext& context, BlockIndex block,
                                             ChunkIndex chunk, MonotonicTime deadline) {
    const RamBlock& ram = context.vm.ram_blocks()[block];
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Hash128> ours, hash_pages(ram, chunk));
    VerifyPagesBody question{.block = block, .chunk = chunk};
    std::copy(ours.begin(), ours.end(), question.hashes.begin());
    GODWIT_ASSIGN_OR_RETURN(const FrameBytes answer,
                            ask(context, FrameKind::kVerifyPages, question.encode(), deadline));
    GODWIT_ASSIGN_OR_RETURN(const VerifyPagesResultBody result,
                            VerifyPagesResultBody::decode(answer));
    const bool discards =
        !context.tracker->sees_discards() && !context.vm.discarding_devices().empty();
    const std::vector<std::byte> zeros(kPageBytes);
    const Hash128 zero = hash_bytes(zeros);
    PageDifference difference;
    for (size_t page = 0; page < kPagesPerChunk; ++page) {
        if ((result.different[page / 64] >> (page % 64) & 1) == 0) continue;
        if (discards && ours[page] == zero) continue;
        if (difference.pages++ == 0) difference.first = chunk * kPagesPerChunk + page;
    }
    return difference;
}

}  // namespace

absl::Status verify_memory(SourceContext& context, MonotonicTime deadline) {
    GODWIT_RETURN_IF_ERROR(context.streams->urgent().send(FrameKind::kVerifyBegin));
    const std::span<const RamBlock> blocks = context.vm.ram_blocks();
    GODWIT_ASSIGN_OR_RETURN(const std::vector<ChunkHash> hashes, hash_ram(blocks, kHashThreads));
    GODWIT_ASSIGN_OR_RETURN(const uint64_t pages, allocated_pages(blocks));
    context.report.mutable_verify()->set_pages(pages);

    uint64_t mismatches = 0;
    std::string first;
    for (BlockIndex b = 0; b < blocks.size(); ++b) {
        std::vector<Hash128> all(blocks[b].chunk_count());
        for (const ChunkHash& hash : hashes)
            if (hash.block == b) all[hash.chunk] = hash.hash;
        GODWIT_ASSIGN_OR_RETURN(const std::vector<ChunkIndex> different,
                                compare_block(context, b, all, deadline));
        for (size_t i = 0; i < different.size(); ++i) {
            if (i >= kMaxNamedChunks) {
                ++mismatches;  // at least one page; not looked into
                continue;
            }
            GODWIT_ASSIGN_OR_RETURN(const PageDifference pages_differ,
                                    compare_chunk(context, b, different[i], deadline));
            mismatches += pages_differ.pages;
            if (first.empty() && pages_differ.pages > 0)
                first = fmt::format("block {}, page {}", blocks[b].name, pages_differ.first);
        }
    }
    context.report.mutable_verify()->set_mismatches(mismatches);
    if (mismatches == 0) return absl::OkStatus();
    return absl::DataLossError(
        fmt::format("Verify found {} differing pages, the first is {}", mismatches, first));
}

}  // namespace godwit
