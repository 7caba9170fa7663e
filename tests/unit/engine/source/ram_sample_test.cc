#include "engine/source/ram_sample.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <random>
#include <vector>

namespace godwit {
namespace {

// A RAM file of `chunks` chunks, all of it a hole.
RamBlock block_of(uint64_t chunks) {
    RamBlock block{.name = "ram", .size = chunks * kChunkBytes, .backing = Backing::kTmpfs4k};
    block.file = UniqueFd(::memfd_create("ram", MFD_CLOEXEC));
    EXPECT_EQ(::ftruncate(block.file.get(), static_cast<off_t>(block.size)), 0);
    return block;
}

std::vector<std::byte> noise(size_t size) {
    std::mt19937_64 dice(1);
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(dice());
    return bytes;
}

void fill(const RamBlock& block, Bytes offset, const std::vector<std::byte>& bytes) {
    ASSERT_TRUE(write_fully(block.file.get(), bytes.data(), bytes.size(), offset).ok());
}

TEST(RamSample, TellsZerosFromNoiseAndLeavesHolesAlone) {
    std::vector<RamBlock> blocks;
    blocks.push_back(block_of(8));
    fill(blocks[0], 0, noise(kChunkBytes));
    fill(blocks[0], 3 * kChunkBytes, std::vector<std::byte>(kChunkBytes));
    const auto sample = sample_ram(blocks);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->touched_pages, 2 * kPagesPerChunk);
    EXPECT_EQ(sample->sampled_pages, 2 * kPagesPerChunk);
    EXPECT_DOUBLE_EQ(sample->zero_share, 0.5);
    EXPECT_EQ(sample->lz4.wire_share, 1) << "noise can't be packed";
    EXPECT_EQ(sample->zstd.wire_share, 1);
    EXPECT_GT(sample->read_cpu_s_per_byte, 0);
    EXPECT_EQ(*find_data(blocks[0].file.get(), kChunkBytes, blocks[0].size), 3 * kChunkBytes);
}

TEST(RamSample, SeesWhatCanBePacked) {
    std::vector<RamBlock> blocks;
    blocks.push_back(block_of(2));
    fill(blocks[0], 0, std::vector<std::byte>(kChunkBytes, std::byte{7}));
    const auto sample = sample_ram(blocks);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->zero_share, 0);
    for (const RamSample::Packing& packing : {sample->lz4, sample->zstd}) {
        EXPECT_LT(packing.wire_share, 0.1);
        EXPECT_GT(packing.pack_cpu_s_per_byte, 0);
        EXPECT_GT(packing.unpack_cpu_s_per_byte, 0);
    }
}

TEST(RamSample, SeesWhatZstdAloneCanPack) {
    std::vector<RamBlock> blocks;
    blocks.push_back(block_of(2));
    std::vector<std::byte> letters = noise(kChunkBytes);
    for (std::byte& byte : letters) byte = (byte & std::byte{31}) | std::byte{64};
    fill(blocks[0], 0, letters);
    const auto sample = sample_ram(blocks);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->lz4.wire_share, 1);
    EXPECT_LT(sample->zstd.wire_share, 0.7) << "five bits of each eight";
}

TEST(RamSample, ReadsNoMoreThanSamplesOfALargeGuest) {
    std::vector<RamBlock> blocks;
    blocks.push_back(block_of(kMostSampledChunks + 10));
    // A page of each chunk.
    for (uint64_t chunk = 0; chunk < blocks[0].chunk_count(); ++chunk)
        fill(blocks[0], chunk * kChunkBytes, noise(kPageBytes));
    const auto sample = sample_ram(blocks);
    ASSERT_TRUE(sample.ok()) << sample.status();
    EXPECT_EQ(sample->touched_pages, kMostSampledChunks + 10);
    EXPECT_EQ(sample->sampled_pages, kMostSampledChunks);
}

TEST(RamSample, OfAGuestThatTouchedNothingIsRefused) {
    std::vector<RamBlock> blocks;
    blocks.push_back(block_of(2));
    EXPECT_EQ(sample_ram(blocks).status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace godwit
