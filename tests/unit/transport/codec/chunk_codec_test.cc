#include "transport/codec/chunk_codec.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>

#include "tests/unit/transport/random_bytes.h"

namespace godwit {
namespace {

constexpr std::array kPackers{PageCodec::kLz4, PageCodec::kZstd};

// Pages of which about `random_pages` in 8 are noise and the rest repeats.
std::vector<std::byte> mixed_pages(Random& random, size_t page_count, size_t random_pages) {
    std::vector<std::byte> bytes(page_count * kPageBytes);
    for (size_t page = 0; page < page_count; ++page) {
        const bool noise = random_below(random, 8) < random_pages;
        for (size_t i = 0; i < kPageBytes; ++i)
            bytes[page * kPageBytes + i] =
                noise ? static_cast<std::byte>(random()) : static_cast<std::byte>(i % 16);
    }
    return bytes;
}

TEST(ChunkCodec, WhatIsCompressedComesBack) {
    Random random(1);
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    for (size_t round = 0; round < 60; ++round) {
        const auto raw = mixed_pages(random, random_below(random, 65), random_below(random, 9));
        const auto encoded = codec.compress(kPackers[round % 2], raw, out);
        const auto payload = std::span<const std::byte>(out).first(encoded.payload_bytes);
        const auto back = codec.decompress(encoded.codec, payload, raw.size());
        ASSERT_TRUE(back.ok()) << back.status();
        EXPECT_TRUE(std::ranges::equal(*back, raw));
    }
}

TEST(ChunkCodec, PacksAWholeChunkAndThenOnePage) {
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    std::vector<std::byte> raw(kChunkBytes);
    for (size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::byte>(i / 100 * i);
    for (const PageCodec packer : kPackers)
        for (const size_t size : {kChunkBytes, kPageBytes, kChunkBytes, 16 * kPageBytes}) {
            const auto part = std::span(raw).first(size);
            const auto packed = codec.pack(packer, part, out);
            ASSERT_TRUE(packed.has_value()) << size;
            const auto back = codec.decompress(packer, std::span(out).first(*packed), size);
            ASSERT_TRUE(back.ok()) << back.status();
            EXPECT_TRUE(std::ranges::equal(*back, part));
        }
}

TEST(ChunkCodec, TakesNoMoreMemoryThanItSays) {
    EXPECT_GT(ChunkCodec::memory_bytes(), kChunkBytes);
    EXPECT_LE(ChunkCodec::memory_bytes(), ChunkCodec::kMostMemoryBytes);
}

TEST(ChunkCodec, AWholeChunkOfNoiseStaysRaw) {
    Random random(2);
    ChunkCodec codec;
    const auto raw = random_bytes(random, kChunkBytes);
    for (const PageCodec packer : kPackers) {
        std::vector<std::byte> out(kChunkBytes);
        const auto encoded = codec.compress(packer, raw, out);
        EXPECT_EQ(encoded.codec, PageCodec::kRaw);
        EXPECT_EQ(encoded.payload_bytes, raw.size());
        EXPECT_EQ(out, raw);
    }
}

TEST(ChunkCodec, PacksOnlyWhatThatSavesASixteenthOf) {
    Random random(3);
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    size_t packed = 0;
    for (size_t noise_bytes = kPageBytes - 600; noise_bytes <= kPageBytes; ++noise_bytes) {
        auto raw = random_bytes(random, noise_bytes);
        raw.resize(kPageBytes);
        for (const PageCodec packer : kPackers) {
            const auto encoded = codec.compress(packer, raw, out);
            if (encoded.codec == PageCodec::kRaw) {
                EXPECT_EQ(encoded.payload_bytes, kPageBytes);
                continue;
            }
            ++packed;
            EXPECT_EQ(encoded.codec, packer);
            EXPECT_LE(encoded.payload_bytes, kPageBytes - kPageBytes / 16);
        }
    }
    EXPECT_GT(packed, 0u);
}

TEST(ChunkCodec, APayloadThatDecodesToAnotherSizeIsRejected) {
    ChunkCodec codec;
    const std::vector<std::byte> raw(2 * kPageBytes, std::byte{5});
    std::vector<std::byte> out(raw.size());
    for (const PageCodec packer : kPackers) {
        const auto encoded = codec.compress(packer, raw, out);
        ASSERT_EQ(encoded.codec, packer);
        const auto payload = std::span<const std::byte>(out).first(encoded.payload_bytes);
        for (const size_t size : {size_t{0}, kPageBytes, 2 * kPageBytes - 1, 2 * kPageBytes + 1,
                                  kChunkBytes, kChunkBytes + 1})
            EXPECT_TRUE(absl::IsInvalidArgument(codec.decompress(packer, payload, size).status()))
                << size;
        EXPECT_FALSE(codec.decompress(PageCodec::kRaw, payload, raw.size()).ok());
        for (size_t size = 0; size < payload.size(); ++size)
            EXPECT_FALSE(codec.decompress(packer, payload.first(size), raw.size()).ok());
    }
}

TEST(ChunkCodec, DamagedPayloadsNeverLeaveTheBuffers) {
    Random random(4);
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    for (size_t round = 0; round < 2000; ++round) {
        const PageCodec packer = kPackers[round % 2];
        const auto raw = mixed_pages(random, 1 + random_below(random, 4), 2);
        const auto encoded = codec.compress(packer, raw, out);
        // In an allocation of its own, so that reading past its end is seen by the sanitizer.
        std::vector<std::byte> payload(
            out.begin(), out.begin() + static_cast<std::ptrdiff_t>(encoded.payload_bytes));
        for (size_t i = 0; i <= random_below(random, 4); ++i)
            payload[random_below(random, payload.size())] = static_cast<std::byte>(random());
        const auto back = codec.decompress(packer, payload, raw.size());
        if (back.ok()) {
            EXPECT_EQ(back->size(), raw.size());
        }
    }
}

// A zstd frame by hand (RFC 8878): one that says `announced_bytes` of itself, of one block that
// repeats a byte `block_bytes` times.
struct ZstdFrame {
    uint32_t magic = 0xfd2fb528;
    uint32_t announced_bytes = kPageBytes;
    uint32_t block_bytes = kPageBytes;
    bool dictionary = false;
};

std::vector<std::byte> bytes_of(const ZstdFrame& frame) {
    std::vector<std::byte> bytes;
    const auto append = [&bytes](uint32_t value, size_t size) {
        for (size_t i = 0; i < size; ++i) bytes.push_back(static_cast<std::byte>(value >> 8 * i));
    };
    append(frame.magic, 4);
    append(0xa0u | (frame.dictionary ? 1u : 0u), 1);  // no window of its own, four bytes of size
    if (frame.dictionary) append(7, 1);
    append(frame.announced_bytes, 4);
    append(frame.block_bytes << 3 | 0b011, 3);  // the last one, of one repeated byte
    append(0x5a, 1);
    return bytes;
}

TEST(ChunkCodec, OfZstdTakesOnlyAFrameOfExactlyThePages) {
    ChunkCodec codec;
    const auto unpacks = [&codec](const std::vector<std::byte>& payload) {
        return codec.decompress(PageCodec::kZstd, payload, kPageBytes).ok();
    };
    ASSERT_TRUE(unpacks(bytes_of({}))) << "the frame is one";
    EXPECT_FALSE(unpacks(bytes_of({.announced_bytes = 2 * kPageBytes})));
    EXPECT_FALSE(unpacks(bytes_of({.block_bytes = kPageBytes - 1})));
    EXPECT_FALSE(unpacks(bytes_of({.block_bytes = 2 * kPageBytes}))) << "more than it says";
    EXPECT_FALSE(unpacks(bytes_of({.announced_bytes = 1u << 30, .block_bytes = 128u << 10})));
    EXPECT_FALSE(unpacks(bytes_of({.dictionary = true})));
    EXPECT_FALSE(unpacks(bytes_of({.magic = 0xfd2fb527}))) << "zstd 0.7";
    EXPECT_FALSE(unpacks(bytes_of({.magic = 0x184d2a50}))) << "a frame to be skipped";
    std::vector<std::byte> two = bytes_of({});
    two.insert(two.end(), two.begin(), two.end());
    EXPECT_FALSE(unpacks(two));
}

}  // namespace
}  // namespace godwit
