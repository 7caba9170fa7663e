#include "engine/verify/ram_hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::Pair;

constexpr ChunkIndex kChunks = 8;

// A sparse RAM file.
class RamFile {
  public:
    explicit RamFile(ChunkIndex chunks = kChunks) {
        block_.path = "/dev/shm/godwit-verify-XXXXXX";
        block_.file.reset(::mkstemp(block_.path.data()));
        block_.name = "ram0";
        block_.size = chunks * kChunkBytes;
        EXPECT_EQ(::ftruncate(block_.file.get(), static_cast<off_t>(block_.size)), 0);
    }
    ~RamFile() { ::unlink(block_.path.c_str()); }
    RamFile(const RamFile&) = delete;
    RamFile& operator=(const RamFile&) = delete;

    void fill(PageIndex page, char content) {
        const std::string bytes(kPageBytes, content);
        EXPECT_TRUE(
            write_fully(block_.file.get(), bytes.data(), bytes.size(), page * kPageBytes).ok());
    }
    std::span<const RamBlock> blocks() const { return {&block_, 1}; }
    const RamBlock& block() const { return block_; }

  private:
    RamBlock block_;
};

std::vector<ChunkHash> hashes_of(const RamFile& ram, int threads = 2) {
    const auto hashes = hash_ram(ram.blocks(), threads);
    EXPECT_TRUE(hashes.ok()) << hashes.status();
    return hashes.value_or(std::vector<ChunkHash>{});
}

TEST(HashRam, NamesTheChunksWithContentInOrderForAnyNumberOfThreads) {
    RamFile ram;
    ram.fill(7 * kPagesPerChunk + 511, 'a');
    ram.fill(3 * kPagesPerChunk, 'b');
    ram.fill(0, 'c');
    const auto hashes = hashes_of(ram, 1);
    ASSERT_EQ(hashes.size(), 3U);
    EXPECT_EQ(hashes[0].chunk, 0U);
    EXPECT_EQ(hashes[1].chunk, 3U);
    EXPECT_EQ(hashes[2].chunk, 7U);
    for (const int threads : {0, 2, 16}) EXPECT_EQ(hashes_of(ram, threads), hashes) << threads;
}

TEST(HashRam, AnEmptyFileHasNoHashesAndStaysEmpty) {
    const RamFile ram;
    EXPECT_THAT(hashes_of(ram), IsEmpty());
    EXPECT_EQ(allocated_pages(ram.blocks()).value(), 0U);
}

TEST(HashRam, AZeroChunkEqualsAHole) {
    RamFile holes;
    RamFile zeros;
    for (RamFile* ram : {&holes, &zeros}) ram->fill(5 * kPagesPerChunk, 'x');
    for (PageIndex page = kPagesPerChunk; page < 3 * kPagesPerChunk; ++page) zeros.fill(page, 0);
    zeros.fill(5 * kPagesPerChunk + 1, 0);
    EXPECT_GT(allocated_pages(zeros.blocks()).value(), allocated_pages(holes.blocks()).value());
    EXPECT_EQ(hashes_of(holes), hashes_of(zeros));
    EXPECT_THAT(differing_chunks(hashes_of(holes), hashes_of(zeros)), IsEmpty());
}

TEST(HashRam, SeesOneByteAnywhereInAChunk) {
    RamFile one;
    RamFile other;
    for (RamFile* ram : {&one, &other}) ram->fill(kPagesPerChunk, 'x');
    for (const Bytes at : {kChunkBytes, 2 * kChunkBytes - 1}) {
        EXPECT_TRUE(write_fully(other.block().file.get(), "y", 1, at).ok());
        EXPECT_THAT(differing_chunks(hashes_of(one), hashes_of(other)), ElementsAre(Pair(0, 1)));
        EXPECT_TRUE(write_fully(one.block().file.get(), "y", 1, at).ok());
        EXPECT_THAT(differing_chunks(hashes_of(one), hashes_of(other)), IsEmpty());
    }
}

TEST(HashRam, AFileThatIsTooShortIsAnError) {
    RamFile ram;
    ram.fill(0, 'x');
    ASSERT_EQ(::ftruncate(ram.block().file.get(), kChunkBytes / 2), 0);
    EXPECT_FALSE(hash_ram(ram.blocks(), 2).ok());
}

TEST(HashPages, NameTheDifferingPages) {
    RamFile one;
    RamFile other;
    for (RamFile* ram : {&one, &other}) ram->fill(2 * kPagesPerChunk + 9, 'x');
    other.fill(2 * kPagesPerChunk + 500, 'y');
    const auto ours = hash_pages(one.block(), 2);
    const auto theirs = hash_pages(other.block(), 2);
    ASSERT_TRUE(ours.ok() && theirs.ok());
    ASSERT_EQ(ours->size(), kPagesPerChunk);
    for (size_t page = 0; page < kPagesPerChunk; ++page)
        EXPECT_EQ((*ours)[page] == (*theirs)[page], page != 500) << page;
}

Hash128 hash(const char* text) { return hash_bytes(std::as_bytes(std::span(text, 1))); }

TEST(DifferingChunks, AreThoseThatOnlyOneSideHasOrThatDiffer) {
    const std::vector<ChunkHash> ours = {
        {0, 1, hash("a")}, {0, 2, hash("b")}, {0, 9, hash("c")}, {1, 0, hash("d")}};
    const std::vector<ChunkHash> theirs = {{0, 0, hash("z")},
                                           {0, 1, hash("a")},
                                           {0, 2, hash("B")},
                                           {1, 0, hash("d")},
                                           {2, 0, hash("e")}};
    const auto expected = ElementsAre(Pair(0, 0), Pair(0, 2), Pair(0, 9), Pair(2, 0));
    EXPECT_THAT(differing_chunks(ours, theirs), expected);
    EXPECT_THAT(differing_chunks(theirs, ours), expected);
    EXPECT_THAT(differing_chunks(ours, ours), IsEmpty());
    EXPECT_THAT(differing_chunks(ours, {}),
                ElementsAre(Pair(0, 1), Pair(0, 2), Pair(0, 9), Pair(1, 0)));
}

}  // namespace
}  // namespace godwit
