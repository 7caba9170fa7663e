#include "engine/postcopy/punch_stale.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace godwit {
namespace {

// References that come and go (a page on its way to the LRU lists, being moved) are gone after a
// few. A try that finds a huge page pinned takes 30 µs: after 15 ms the guest goes back instead.
constexpr int kMaxPunchTries = 500;

absl::Status punch(const RamBlock& block, Bytes begin, Bytes end, PunchTotals& totals) {
    ++totals.call_count;
    while (::fallocate(block.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                       static_cast<off_t>(begin), static_cast<off_t>(end - begin)) != 0) {
        if (errno != EINTR)
            return annotate(errno_status(errno, "fallocate(FALLOC_FL_PUNCH_HOLE)"),
                            fmt::format("Cannot punch RAM block {}", block.name));
    }
    return absl::OkStatus();
}

absl::Status punch_run(const RamBlock& block, Bytes begin, Bytes end, PunchTotals& totals) {
    for (int tries = 0; tries < kMaxPunchTries; ++tries) {
        GODWIT_ASSIGN_OR_RETURN(const Bytes data, find_data(block.file.get(), begin, end));
        if (data == end) {
            if (tries == 0) ++totals.absent_runs;
            return absl::OkStatus();
        }
        if (tries > 0) {
            ++totals.retry_count;
            ::sched_yield();
        }
        GODWIT_RETURN_IF_ERROR(punch(block, data, end, totals));
        begin = data;
    }
    return absl::FailedPreconditionError(
        fmt::format("Cannot punch RAM block {}: page {} stays present: somebody has it pinned",
                    block.name, begin / kPageBytes));
}

}  // namespace

ChunkMask whole_granules(const RamBlock& block, const ChunkMask& pages) {
    if (block.backing != Backing::kHugetlb2M || pages == ChunkMask{}) return pages;
    ChunkMask all{};
    all.fill(~uint64_t{0});
    return all;
}

absl::Status punch_stale(const RamBlock& block, ChunkIndex chunk, const ChunkMask& pages,
                         PunchTotals& totals) {
    if (chunk >= block.chunk_count())
        return absl::InvalidArgumentError(
            fmt::format("RAM block {} has no chunk {}", block.name, chunk));
    const ChunkMask stale = whole_granules(block, pages);
    totals.stale_pages += count_pages(stale);
    const Bytes base = chunk * kChunkBytes;
    if (block.backing == Backing::kHugetlb2M) {
        if (stale == ChunkMask{}) return absl::OkStatus();
        ++totals.run_count;
        // SEEK_DATA knows no holes there, and the kernel takes whole huge pages out at once.
        return punch(block, base, base + kChunkBytes, totals);
    }
    for (uint64_t page = 0; page < kPagesPerChunk;) {
        if ((stale[page / 64] >> (page % 64) & 1) == 0) {
            ++page;
            continue;
        }
        const uint64_t first = page;
        while (page < kPagesPerChunk && (stale[page / 64] >> (page % 64) & 1) != 0) ++page;
        ++totals.run_count;
        GODWIT_RETURN_IF_ERROR(
            punch_run(block, base + first * kPageBytes, base + page * kPageBytes, totals));
    }
    return absl::OkStatus();
}

}  // namespace godwit
