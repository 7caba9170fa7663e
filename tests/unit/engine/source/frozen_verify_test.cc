#include "engine/source/frozen_verify.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

namespace godwit {
namespace {

constexpr ChunkIndex kChunks = 3;

class FrozenVerifyTest : public ::testing::Test {
  protected:
    FrozenVerifyTest() {
        for (const char* name : {"ram0", "ram1"}) {
            RamBlock block{.name = name, .path = name, .size = kChunks * kChunkBytes};
            block.file.reset(::memfd_create(name, MFD_CLOEXEC));
            EXPECT_EQ(::ftruncate(block.file.get(), static_cast<off_t>(block.size)), 0);
            blocks_.push_back(std::move(block));
            missing_.emplace_back(blocks_.back().page_count());
        }
        sent_.emplace(blocks_);
    }
    void write(BlockIndex block, PageIndex page, char letter) {
        const std::string content(kPageBytes, letter);
        ASSERT_TRUE(
            write_fully(blocks_[block].file.get(), content.data(), kPageBytes, page * kPageBytes)
                .ok());
    }
    // As the round sender notes what was sent.
    void note_sent(BlockIndex block, PageIndex page, char letter) {
        const std::string content(kPageBytes, letter);
        sent_->chunk(block, page / kPagesPerChunk)[page % kPagesPerChunk] =
            letter == 0 ? Hash128{} : hash_bytes(std::as_bytes(std::span(content)));
    }
    void write_and_send(BlockIndex block, PageIndex page, char letter) {
        write(block, page, letter);
        note_sent(block, page, letter);
    }
    FrozenVerify verify(bool holes_are_equal = false) {
        auto result = verify_frozen(blocks_, *sent_, missing_, holes_are_equal, {});
        EXPECT_TRUE(result.ok()) << result.status();
        return result.ok() ? *result : FrozenVerify{};
    }

    std::vector<RamBlock> blocks_;
    PageSet missing_;
    std::optional<PageHashTable> sent_;
};

TEST_F(FrozenVerifyTest, IsCleanWhereAllThatWasSentIsWhatIsThere) {
    write_and_send(0, 0, 'a');
    write_and_send(0, kPagesPerChunk - 1, 'b');
    write_and_send(1, kPagesPerChunk + 7, 'c');
    write_and_send(1, kPagesPerChunk + 8, 0);
    const FrozenVerify result = verify();
    EXPECT_EQ(result.mismatches, 0U) << result.first;
    EXPECT_EQ(result.first, "");
    EXPECT_EQ(result.page_count, 2 * kPagesPerChunk);  // of chunks in which there is something
}

TEST_F(FrozenVerifyTest, NeedNotReadWhatWasNeverSentAndHoldsNothing) {
    EXPECT_EQ(verify().page_count, 0U);
}

TEST_F(FrozenVerifyTest, FindsAWriteThatTheTrackerLostAndNamesTheFirst) {
    write_and_send(0, 3, 'a');
    write_and_send(1, kPagesPerChunk + 7, 'b');
    write_and_send(1, kPagesPerChunk + 9, 'c');
    write(1, kPagesPerChunk + 7, 'x');
    write(1, kPagesPerChunk + 9, 'y');
    const FrozenVerify result = verify();
    EXPECT_EQ(result.mismatches, 2U);
    EXPECT_EQ(result.first, fmt::format("block ram1, page {}", kPagesPerChunk + 7));
}

TEST_F(FrozenVerifyTest, FindsASingleByteThatDiffers) {
    write_and_send(0, 3, 'a');
    ASSERT_TRUE(write_fully(blocks_[0].file.get(), "b", 1, 4 * kPageBytes - 1).ok());
    EXPECT_EQ(verify().mismatches, 1U);
}

TEST_F(FrozenVerifyTest, FindsAPageThatWasNeverSentAndIsNotMissing) {
    write(0, 2 * kPagesPerChunk, 'a');
    const FrozenVerify result = verify();
    EXPECT_EQ(result.mismatches, 1U);
    EXPECT_EQ(result.first, fmt::format("block ram0, page {}", 2 * kPagesPerChunk));
}

TEST_F(FrozenVerifyTest, PassesOverPagesThatAreSentFromTheFrozenMemoryItself) {
    write_and_send(0, 3, 'a');
    write(0, 3, 'x');
    write(1, 5, 'y');
    missing_[0].set(3);
    missing_[1].set_range({0, kPagesPerChunk});  // a chunk of them is not even read
    const FrozenVerify result = verify();
    EXPECT_EQ(result.mismatches, 0U) << result.first;
    EXPECT_EQ(result.page_count, kPagesPerChunk - 1);
}

TEST_F(FrozenVerifyTest, FindsAPageThatBecameZeroUnlessADeviceMayHaveGivenItBack) {
    write_and_send(0, 3, 'a');
    write_and_send(0, 4, 'b');
    write(0, 3, 0);
    EXPECT_EQ(verify().mismatches, 1U);
    EXPECT_EQ(verify(true).mismatches, 0U);
    write(0, 4, 'x');
    const FrozenVerify result = verify(true);
    EXPECT_EQ(result.mismatches, 1U) << "only zeros are excused";
    EXPECT_EQ(result.first, "block ram0, page 4");
}

TEST_F(FrozenVerifyTest, EndsWhenItIsToldTo) {
    std::stop_source stop;
    stop.request_stop();
    EXPECT_TRUE(absl::IsCancelled(
        verify_frozen(blocks_, *sent_, missing_, false, stop.get_token()).status()));
}

TEST_F(FrozenVerifyTest, FailsWhereTheMemoryCannotBeRead) {
    note_sent(0, 3, 'a');
    ASSERT_EQ(::ftruncate(blocks_[0].file.get(), 0), 0);
    EXPECT_FALSE(verify_frozen(blocks_, *sent_, missing_, false, {}).ok());
}

}  // namespace
}  // namespace godwit
