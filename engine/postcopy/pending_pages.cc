#include "engine/postcopy/pending_pages.h"

#include <algorithm>
#include <bit>

#include "engine/postcopy/mask_runs.h"

namespace godwit {
namespace {

// The lowest `max` set bits.
uint64_t lowest(uint64_t bits, uint64_t max) {
    if (static_cast<uint64_t>(std::popcount(bits)) <= max) return bits;
    uint64_t kept = 0;
    for (; max > 0; --max) {
        kept |= bits & (~bits + 1);
        bits &= bits - 1;
    }
    return kept;
}

}  // namespace

void PendingPages::add(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
    count_ += count_pages(pages);  // before: it is never too small
    uint64_t were_set = 0;
    for (size_t i = 0; i < pages.size(); ++i) {
        if (pages[i] == 0) continue;
        const uint64_t before = pages_[block].set(chunk * kWordsPerChunk + i, pages[i]);
        were_set += static_cast<uint64_t>(std::popcount(before & pages[i]));
    }
    count_ -= were_set;
}

void PendingPages::clear_all() {
    for (BlockIndex block = 0; block < pages_.block_count(); ++block)
        for (size_t word = 0; word < pages_[block].size(); ++word)
            take_word(block, word, [](uint64_t bits) { return bits; });
}

template <typename Choose>
uint64_t PendingPages::take_word(BlockIndex block, size_t word, Choose&& choose) {
    uint64_t seen = pages_[block].load(word);
    uint64_t taken = 0;
    do {
        taken = choose(seen);
        if (taken == 0) return 0;
    } while (!pages_[block].replace(word, seen, seen & ~taken));
    count_ -= static_cast<uint64_t>(std::popcount(taken));
    return taken;
}

ChunkMask PendingPages::take_chunk(BlockIndex block, ChunkIndex chunk) {
    ChunkMask taken{};
    for (size_t i = 0; i < taken.size(); ++i)
        taken[i] = take_word(block, chunk * kWordsPerChunk + i, [](uint64_t bits) { return bits; });
    return taken;
}

PageRange PendingPages::take_run(BlockIndex block, PageIndex page, uint64_t max) {
    const PageIndex chunk_end = (page / kPagesPerChunk + 1) * kPagesPerChunk;
    const PageIndex limit = page + std::min(max, chunk_end - page);
    PageRange run{page, page};
    while (run.end < limit) {
        const auto bit = static_cast<uint32_t>(run.end % 64);
        const uint64_t room = std::min<uint64_t>(64 - bit, limit - run.end);
        const uint64_t taken = take_word(block, run.end / 64, [&](uint64_t bits) {
            const auto count = static_cast<uint64_t>(std::countr_one(bits >> bit));
            return count == 0 ? 0 : bit_run(bit, std::min(count, room));
        });
        const auto count = static_cast<uint64_t>(std::popcount(taken));
        run.end += count;
        if (count < room) break;
    }
    return run;
}

ChunkMask PendingPages::take_following(BlockIndex block, PageIndex from, uint64_t window,
                                       uint64_t max) {
    ChunkMask taken{};
    const PageIndex chunk_end = (from / kPagesPerChunk + 1) * kPagesPerChunk;
    const PageIndex end = from + std::min(window, chunk_end - from);
    for (PageIndex page = from; page < end && max > 0;) {
        const auto bit = static_cast<uint32_t>(page % 64);
        const uint64_t count = std::min<uint64_t>(64 - bit, end - page);
        const uint64_t wanted = bit_run(bit, count);
        const uint64_t got =
            take_word(block, page / 64, [&](uint64_t bits) { return lowest(bits & wanted, max); });
        taken[page / 64 % kWordsPerChunk] = got;
        max -= static_cast<uint64_t>(std::popcount(got));
        page += count;
    }
    return taken;
}

}  // namespace godwit
