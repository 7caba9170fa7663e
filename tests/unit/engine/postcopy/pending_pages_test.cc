#include "engine/postcopy/pending_pages.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/unit/engine/postcopy/fault_ram.h"

namespace godwit {
namespace {

class PendingPagesTest : public ::testing::Test {
  protected:
    PendingPagesTest() {
        for (const uint64_t chunks : {2, 3})
            blocks_.push_back({.name = "ram", .size = chunks * kChunkBytes});
        pending_.emplace(blocks_);
    }
    std::vector<RamBlock> blocks_;
    std::optional<PendingPages> pending_;
};

TEST_F(PendingPagesTest, AChunkIsTakenOnce) {
    pending_->add(1, 2, some_pages({1, 2, 500}));
    pending_->add(1, 2, some_pages({2, 3}));
    EXPECT_EQ(pending_->count(), 4u);
    EXPECT_EQ(pending_->take_chunk(1, 2), some_pages({1, 2, 3, 500}));
    EXPECT_EQ(pending_->take_chunk(1, 2), ChunkMask{});
    EXPECT_EQ(pending_->count(), 0u);
}

TEST_F(PendingPagesTest, ARunEndsAtAGapAtTheLimitAndAtTheChunk) {
    pending_->add(0, 0, all_pages());
    pending_->add(0, 1, all_pages());
    EXPECT_EQ(pending_->take_run(0, 60, 10), (PageRange{60, 70}));
    EXPECT_EQ(pending_->take_run(0, 60, 10), (PageRange{60, 60}));
    EXPECT_EQ(pending_->take_run(0, 50, 64), (PageRange{50, 60}));
    EXPECT_EQ(pending_->take_run(0, 500, 64), (PageRange{500, 512}));
    EXPECT_EQ(pending_->take_run(0, 100, 400), (PageRange{100, 500}));
    EXPECT_EQ(pending_->take_run(0, 80, 0), (PageRange{80, 80}));
    EXPECT_EQ(pending_->count(), 1024u - 10 - 10 - 12 - 400);
}

TEST_F(PendingPagesTest, FollowingPagesMayHaveGaps) {
    pending_->add(0, 0, some_pages({10, 12, 13, 70, 130, 200}));
    EXPECT_EQ(pending_->take_following(0, 11, 100, 3), some_pages({12, 13, 70}));
    EXPECT_EQ(pending_->take_following(0, 11, 100, 3), ChunkMask{});
    EXPECT_EQ(pending_->take_following(0, 11, 1000, 10), some_pages({130, 200}));
    EXPECT_EQ(pending_->count(), 1u);
    pending_->clear_all();
    EXPECT_EQ(pending_->count(), 0u);
    EXPECT_FALSE(pending_->test(0, 10));
}

TEST_F(PendingPagesTest, NoPageIsGivenToTwo) {
    for (int round = 0; round < 50; ++round) {
        for (ChunkIndex chunk = 0; chunk < 3; ++chunk) pending_->add(1, chunk, all_pages());
        std::vector<std::thread> threads;
        std::vector<uint64_t> taken(4);
        for (size_t i = 0; i < taken.size(); ++i) {
            threads.emplace_back([&, i] {
                for (PageIndex page = i; page < 3 * 512; page += 3) {
                    taken[i] += pending_->take_run(1, page, 1 + i).count();
                    taken[i] += count_pages(pending_->take_following(1, page, 9, 2));
                }
                for (ChunkIndex chunk = 0; chunk < 3; ++chunk)
                    taken[i] += count_pages(pending_->take_chunk(1, chunk));
            });
        }
        for (std::thread& thread : threads) thread.join();
        EXPECT_EQ(taken[0] + taken[1] + taken[2] + taken[3], 3u * 512);
        EXPECT_EQ(pending_->count(), 0u);
    }
}

}  // namespace
}  // namespace godwit
