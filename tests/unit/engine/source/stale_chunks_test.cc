#include "engine/source/stale_chunks.h"

#include <gtest/gtest.h>

#include "engine/base/page_bitmap.h"

namespace godwit {
namespace {

// Runs of `length` pages, each followed by `gap` good ones, as many as `runs`.
ChunkMask comb(uint64_t runs, uint64_t length, uint64_t gap) {
    ChunkMask mask{};
    for (uint64_t run = 0; run < runs; ++run)
        for (uint64_t i = 0; i < length; ++i) {
            const uint64_t page = run * (length + gap) + i;
            mask[page / 64] |= uint64_t{1} << (page % 64);
        }
    return mask;
}

TEST(StaleChunks, CountsRuns) {
    EXPECT_EQ(run_count({}), 0U);
    EXPECT_EQ(run_count(comb(1, 512, 0)), 1U);
    EXPECT_EQ(run_count(comb(256, 1, 1)), 256U);
    EXPECT_EQ(run_count(comb(3, 64, 7)), 3U);
}

TEST(StaleChunks, OverASlowLinkEachRunIsDroppedByItself) {
    EXPECT_FALSE(is_sooner_sent_again(comb(256, 1, 1), 60e6));
    EXPECT_FALSE(is_sooner_sent_again(comb(256, 1, 1), 400e6));
    EXPECT_FALSE(is_sooner_sent_again(comb(17, 1, 20), 250e6));
}

TEST(StaleChunks, OverAFastLinkTheGoodPagesOfAFullChunkAreSentAgain) {
    // 256 punches take 2.56 ms, 256 pages at 1.2 GB/s 0.87 ms.
    EXPECT_TRUE(is_sooner_sent_again(comb(256, 1, 1), 1.2e9));
    // 16 punches take 0.16 ms, 496 pages 1.7 ms; at 12 GB/s 0.17 ms, so that 17 are enough.
    EXPECT_FALSE(is_sooner_sent_again(comb(16, 1, 20), 1.2e9));
    EXPECT_FALSE(is_sooner_sent_again(comb(16, 1, 20), 12e9));
    EXPECT_TRUE(is_sooner_sent_again(comb(17, 1, 20), 12e9));
}

TEST(StaleChunks, AWholeChunkIsOneRunAndHasNothingGood) {
    EXPECT_TRUE(is_sooner_sent_again(comb(1, 512, 0), 60e6));
}

TEST(StaleChunks, WithoutARateNothingIsSentAgain) {
    EXPECT_FALSE(is_sooner_sent_again(comb(256, 1, 1), 0));
}

}  // namespace
}  // namespace godwit
