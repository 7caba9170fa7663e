#include "transport/codec/chunk_codec.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/transport/random_bytes.h"

namespace godwit {
namespace {

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
        const auto encoded = codec.compress(raw, out);
        const auto payload = std::span<const std::byte>(out).first(encoded.payload_bytes);
        const auto back = codec.decompress(encoded.codec, payload, raw.size());
        ASSERT_TRUE(back.ok()) << back.status();
        EXPECT_TRUE(std::ranges::equal(*back, raw));
    }
}

TEST(ChunkCodec, AWholeChunkOfNoiseStaysRaw) {
    Random random(2);
    ChunkCodec codec;
    const auto raw = random_bytes(random, kChunkBytes);
    std::vector<std::byte> out(kChunkBytes);
    const auto encoded = codec.compress(raw, out);
    EXPECT_EQ(encoded.codec, PageCodec::kRaw);
    EXPECT_EQ(encoded.payload_bytes, raw.size());
    EXPECT_EQ(out, raw);
}

TEST(ChunkCodec, Lz4IsUsedOnlyWhereItSavesASixteenth) {
    Random random(3);
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    for (size_t noise_bytes = kPageBytes - 600; noise_bytes <= kPageBytes; ++noise_bytes) {
        auto raw = random_bytes(random, noise_bytes);
        raw.resize(kPageBytes);
        const auto encoded = codec.compress(raw, out);
        if (encoded.codec == PageCodec::kLz4)
            EXPECT_LE(encoded.payload_bytes, kPageBytes - kPageBytes / 16);
        else
            EXPECT_EQ(encoded.payload_bytes, kPageBytes);
    }
}

TEST(ChunkCodec, APayloadThatDecodesToAnotherSizeIsRejected) {
    ChunkCodec codec;
    const std::vector<std::byte> raw(2 * kPageBytes, std::byte{5});
    std::vector<std::byte> out(raw.size());
    const auto encoded = codec.compress(raw, out);
    ASSERT_EQ(encoded.codec, PageCodec::kLz4);
    const auto payload = std::span<const std::byte>(out).first(encoded.payload_bytes);
    for (const size_t size : {size_t{0}, kPageBytes, 2 * kPageBytes - 1, 2 * kPageBytes + 1,
                              kChunkBytes, kChunkBytes + 1})
        EXPECT_TRUE(
            absl::IsInvalidArgument(codec.decompress(PageCodec::kLz4, payload, size).status()))
            << size;
    EXPECT_FALSE(codec.decompress(PageCodec::kRaw, payload, raw.size()).ok());
    for (size_t size = 0; size < payload.size(); ++size)
        EXPECT_FALSE(codec.decompress(PageCodec::kLz4, payload.first(size), raw.size()).ok());
}

TEST(ChunkCodec, DamagedPayloadsNeverLeaveTheBuffers) {
    Random random(4);
    ChunkCodec codec;
    std::vector<std::byte> out(kChunkBytes);
    for (size_t round = 0; round < 2000; ++round) {
        const auto raw = mixed_pages(random, 1 + random_below(random, 4), 2);
        const auto encoded = codec.compress(raw, out);
        // In an allocation of its own, so that reading past its end is seen by the sanitizer.
        std::vector<std::byte> payload(
            out.begin(), out.begin() + static_cast<std::ptrdiff_t>(encoded.payload_bytes));
        for (size_t i = 0; i <= random_below(random, 4); ++i)
            payload[random_below(random, payload.size())] = static_cast<std::byte>(random());
        const auto back = codec.decompress(PageCodec::kLz4, payload, raw.size());
        if (back.ok()) {
            EXPECT_EQ(back->size(), raw.size());
        }
    }
}

}  // namespace
}  // namespace godwit
