#include "engine/destination/ram_writer.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>

namespace godwit {
namespace {

constexpr ChunkIndex kChunks = 4;

// A block that says it is on hugetlbfs is written through a mapping; on tmpfs that works as well.
class RamWriterTest : public ::testing::TestWithParam<Backing> {
  protected:
    void SetUp() override {
        for (const char* name : {"ram0", "ram1"}) {
            RamBlock block;
            block.name = name;
            block.path = "/dev/shm/godwit-writer-XXXXXX";
            block.size = kChunks * kChunkBytes;
            block.backing = GetParam();
            block.file.reset(::mkstemp(block.path.data()));
            ASSERT_TRUE(block.file.valid());
            ASSERT_EQ(::ftruncate(block.file.get(), static_cast<off_t>(block.size)), 0);
            blocks.push_back(std::move(block));
        }
        auto made = RamWriter::create(blocks);
        ASSERT_TRUE(made.ok()) << made.status();
        writer.emplace(std::move(*made));
    }
    void TearDown() override {
        for (const RamBlock& block : blocks) ::unlink(block.path.c_str());
    }

    // A body with these pages of the chunk; `zero` are among `present`.
    static PagesBody pages(BlockIndex block, ChunkIndex chunk, const std::vector<int>& present,
                           const std::vector<int>& zero = {}) {
        PagesBody body{.block = block, .chunk = chunk};
        for (const int page : present) body.present[page / 64] |= uint64_t{1} << (page % 64);
        for (const int page : zero) body.zero[page / 64] |= uint64_t{1} << (page % 64);
        return body;
    }
    static std::string bytes(const std::string& letters) {
        std::string content;
        for (const char letter : letters) content.append(kPageBytes, letter);
        return content;
    }
    void write(const PagesBody& body, const std::string& letters) {
        const std::string raw = bytes(letters);
        const absl::Status status = writer->write(body, std::as_bytes(std::span(raw)));
        EXPECT_TRUE(status.ok()) << status;
    }
    // What the page holds: one letter all over, '.' for zeros.
    char letter(BlockIndex block, PageIndex page) const {
        std::string content(kPageBytes, '\0');
        EXPECT_TRUE(
            read_fully(blocks[block].file.get(), content.data(), content.size(), page * kPageBytes)
                .ok());
        EXPECT_EQ(content.find_first_not_of(content[0]), std::string::npos) << page;
        return content[0] == '\0' ? '.' : content[0];
    }

    std::vector<RamBlock> blocks;
    std::optional<RamWriter> writer;
};

TEST_P(RamWriterTest, PutsEachPageWhereItBelongs) {
    write(pages(0, 2, {0, 1, 2, 64, 511}), "abcde");
    const PageIndex first = 2 * kPagesPerChunk;
    EXPECT_EQ(letter(0, first - 1), '.');
    EXPECT_EQ(letter(0, first), 'a');
    EXPECT_EQ(letter(0, first + 1), 'b');
    EXPECT_EQ(letter(0, first + 2), 'c');
    EXPECT_EQ(letter(0, first + 3), '.');
    EXPECT_EQ(letter(0, first + 64), 'd');
    EXPECT_EQ(letter(0, first + 511), 'e');
    EXPECT_EQ(letter(0, first + 512), '.');
    EXPECT_EQ(letter(1, first), '.') << "another block";
}

TEST_P(RamWriterTest, ZeroPagesHaveNoBytesAndReplaceWhatWasThere) {
    write(pages(1, 0, {4, 5, 6, 7}), "wxyz");
    write(pages(1, 0, {4, 5, 6, 7}, {5, 6}), "WZ");
    EXPECT_EQ(letter(1, 4), 'W');
    EXPECT_EQ(letter(1, 5), '.');
    EXPECT_EQ(letter(1, 6), '.');
    EXPECT_EQ(letter(1, 7), 'Z');
}

TEST_P(RamWriterTest, TheLatestContentStays) {
    write(pages(0, 3, {511}), "a");
    write(pages(0, 3, {511}), "b");
    EXPECT_EQ(letter(0, kChunks * kPagesPerChunk - 1), 'b');
    write(pages(0, 3, {511}, {511}), "");
    EXPECT_EQ(letter(0, kChunks * kPagesPerChunk - 1), '.');
}

TEST_P(RamWriterTest, LeavesEveryOtherPageUnallocated) {
    write(pages(0, 1, {3}), "a");
    struct stat info {};
    ASSERT_EQ(::fstat(blocks[0].file.get(), &info), 0);
    EXPECT_LE(static_cast<Bytes>(info.st_blocks) * 512, kChunkBytes);
}

class RamWriterToAFile : public RamWriterTest {};

TEST_P(RamWriterToAFile, SaysSoWhenItCannotBeWritten) {
    blocks[0].file = UniqueFd(::open(blocks[0].path.c_str(), O_RDONLY | O_CLOEXEC));
    const std::string raw = bytes("a");
    const absl::Status status = writer->write(pages(0, 0, {0}), std::as_bytes(std::span(raw)));
    EXPECT_FALSE(status.ok());
    EXPECT_NE(status.message().find("Cannot write guest memory"), std::string::npos) << status;
}

INSTANTIATE_TEST_SUITE_P(Backings, RamWriterToAFile, ::testing::Values(Backing::kTmpfsHuge));

INSTANTIATE_TEST_SUITE_P(Ways, RamWriterTest,
                         ::testing::Values(Backing::kTmpfsHuge, Backing::kTmpfs4k,
                                           Backing::kHugetlb2M),
                         [](const auto& test) {
                             return test.param == Backing::kHugetlb2M ? "Mapped"
                                    : test.param == Backing::kTmpfs4k ? "SmallPages"
                                                                      : "HugeFolios";
                         });

}  // namespace
}  // namespace godwit
