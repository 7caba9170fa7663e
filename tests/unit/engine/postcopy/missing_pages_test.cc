#include "engine/postcopy/missing_pages.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <thread>

#include "tests/unit/dirty-tracking/process/private_mount.h"
#include "tests/unit/engine/handover/scratch_directory.h"
#include "tests/unit/engine/postcopy/fault_ram.h"

namespace godwit {
using testing::ScratchDirectory;

namespace {

std::vector<RamBlock> make_blocks(std::initializer_list<uint64_t> chunk_counts) {
    std::vector<RamBlock> blocks;
    for (const uint64_t chunks : chunk_counts)
        blocks.push_back({.name = "ram" + std::to_string(blocks.size()),
                          .size = chunks * kChunkBytes,
                          .backing = Backing::kTmpfs4k});
    return blocks;
}

class MissingPagesTest : public ::testing::Test {
  protected:
    [[nodiscard]] std::string path() const { return directory_.path() + "/missing"; }
    // The file with `bytes` written over it at `offset`.
    void damage(size_t offset, const std::string& bytes) const {
        std::fstream file(path(), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(static_cast<std::streamoff>(offset));
        file << bytes;
    }
    void expect_data_loss(const std::vector<RamBlock>& blocks, const std::string& words) const {
        const auto opened = MissingPages::open(path(), blocks);
        EXPECT_TRUE(absl::IsDataLoss(opened.status())) << opened.status();
        EXPECT_NE(opened.status().message().find(words), std::string::npos) << opened.status();
    }

    ScratchDirectory directory_;
    std::vector<RamBlock> blocks_ = make_blocks({3, 2});
};

TEST_F(MissingPagesTest, AreRememberedInTheFile) {
    {
        auto missing = MissingPages::create(path(), blocks_);
        ASSERT_TRUE(missing.ok()) << missing.status();
        EXPECT_EQ(missing->count(), 0u);
        missing->set(0, 2, some_pages({0, 5, 511}));
        missing->set(1, 1, all_pages());
        missing->set(0, 2, some_pages({5, 6}));
        missing->clear(1, 1, some_pages({1, 2}));
        missing->clear(1, 1, some_pages({2, 3}));
        missing->meter().placed(PageOrigin::kPush, 77);
        EXPECT_EQ(missing->count(), 4u + 509u);
    }
    const auto missing = MissingPages::open(path(), blocks_);
    ASSERT_TRUE(missing.ok()) << missing.status();
    EXPECT_EQ(missing->count(), 4u + 509u);
    EXPECT_EQ(missing->stats().push_pages, 77u);
    EXPECT_TRUE(missing->test(0, 2 * 512 + 511));
    EXPECT_FALSE(missing->test(0, 2 * 512 + 510));
    EXPECT_EQ(missing->chunk(0, 2), some_pages({0, 5, 6, 511}));
    std::vector<std::pair<BlockIndex, ChunkIndex>> visited;
    missing->for_each_chunk([&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        visited.emplace_back(block, chunk);
        EXPECT_EQ(pages, missing->chunk(block, chunk));
    });
    EXPECT_EQ(visited, (std::vector<std::pair<BlockIndex, ChunkIndex>>{{0, 2}, {1, 1}}));
}

TEST_F(MissingPagesTest, AreNewWhenTheyAreCreatedAgain) {
    MissingPages::create(path(), blocks_)->set(0, 0, all_pages());
    EXPECT_EQ(MissingPages::create(path(), blocks_)->count(), 0u);
    EXPECT_EQ(MissingPages::open(path(), blocks_)->count(), 0u);
}

TEST_F(MissingPagesTest, AreOfTheseBlocksOnly) {
    ASSERT_TRUE(MissingPages::create(path(), blocks_).ok());
    expect_data_loss(make_blocks({3, 3}), "bytes instead of");
    expect_data_loss(make_blocks({2, 3}), "other RAM blocks");
    expect_data_loss(make_blocks({5}), "number of RAM blocks");
    std::vector<RamBlock> renamed = make_blocks({3, 2});
    renamed[1].name = "other";
    expect_data_loss(renamed, "other RAM blocks");
}

TEST_F(MissingPagesTest, ADamagedFileIsNotUsed) {
    const auto make = [&] { ASSERT_TRUE(MissingPages::create(path(), blocks_).ok()); };
    make();
    damage(0, "X");
    expect_data_loss(blocks_, "none of ours");
    make();
    damage(12, "\x07");
    expect_data_loss(blocks_, "head is damaged");
    make();
    damage(70, "\x07");
    expect_data_loss(blocks_, "shapes are damaged");
    make();
    std::filesystem::resize_file(path(), 100);
    expect_data_loss(blocks_, "bytes instead of");
    std::filesystem::remove(path());
    EXPECT_TRUE(absl::IsNotFound(MissingPages::open(path(), blocks_).status()));
}

TEST_F(MissingPagesTest, AFullDiskIsAnErrorAtOnce) {
    if (::geteuid() != 0) GTEST_SKIP() << "needs root for a mount";
    const auto mount = PrivateMount::create("tmpfs", "size=64k");
    ASSERT_TRUE(mount.ok()) << mount.status();
    const std::string full = mount->path() + "/missing";
    const auto missing = MissingPages::create(full, make_blocks({4096}));
    EXPECT_TRUE(absl::IsResourceExhausted(missing.status())) << missing.status();
    EXPECT_TRUE(std::filesystem::is_empty(mount->path()));
    EXPECT_TRUE(MissingPages::create(full, make_blocks({64})).ok());
}

TEST_F(MissingPagesTest, TooManyBlocksAreRefused) {
    std::vector<RamBlock> many;
    for (size_t i = 0; i < MissingPages::kMaxBlocks; ++i)
        many.push_back({.name = std::to_string(i), .size = kChunkBytes});
    EXPECT_TRUE(MissingPages::create(path(), many).ok());
    EXPECT_TRUE(MissingPages::open(path(), many).ok());
    many.push_back({.name = "one more", .size = kChunkBytes});
    EXPECT_TRUE(absl::IsInvalidArgument(MissingPages::create(path(), many).status()));
}

TEST_F(MissingPagesTest, TheCountHoldsWhileManyThreadsChangeThem) {
    auto missing = MissingPages::create(path(), blocks_);
    ASSERT_TRUE(missing.ok());
    std::vector<std::thread> threads;
    for (uint64_t i = 0; i < 4; ++i) {
        threads.emplace_back([&missing, i] {
            for (uint64_t round = 0; round < 2000; ++round) {
                const ChunkMask pages = some_pages({i, 64 + round % 64, 5});
                if ((round + i) % 2 == 0) missing->set(0, 1, pages);
                if ((round + i) % 2 == 1) missing->clear(0, 1, pages);
            }
        });
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(missing->count(), count_pages(missing->chunk(0, 1)));
}

}  // namespace
}  // namespace godwit
