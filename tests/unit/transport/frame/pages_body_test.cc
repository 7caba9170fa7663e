#include "transport/frame/pages_body.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

#include "tests/unit/transport/random_bytes.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

using testing::HasSubstr;

constexpr std::array<uint64_t, 2> kBlockChunks{4, 1000};

std::vector<std::byte> encode(const PagesBody& pages) {
    std::vector<std::byte> body(kPagesHeadBytes);
    encode_pages_head(pages, std::span(body).first<kPagesHeadBytes>());
    body.insert(body.end(), pages.payload.begin(), pages.payload.end());
    return body;
}

uint32_t raw_bytes_of(const PagesBody& pages) {
    return count_pages(pages.filled()) * static_cast<uint32_t>(kPageBytes);
}

TEST(ChunkMask, GivesItsFirstPagesAway) {
    ChunkMask mask{};
    mask[0] = 0b1011;
    mask[2] = uint64_t{3} << 62;
    mask[7] = 1;
    const ChunkMask all = mask;
    EXPECT_EQ(take_pages(mask, 2), (ChunkMask{0b11}));
    EXPECT_EQ(take_pages(mask, 2), (ChunkMask{0b1000, 0, uint64_t{1} << 62}));
    EXPECT_EQ(take_pages(mask, 0), (ChunkMask{0, 0, uint64_t{1} << 63})) << "never nothing";
    EXPECT_EQ(take_pages(mask, 1000), (ChunkMask{0, 0, 0, 0, 0, 0, 0, 1}));
    EXPECT_EQ(mask, ChunkMask{});
    mask = all;
    EXPECT_EQ(take_pages(mask, kPagesPerChunk), all);
}

// Two pages present, one of them zero, raw.
struct Example {
    std::vector<std::byte> payload = std::vector<std::byte>(kPageBytes, std::byte{7});
    PagesBody pages;
    Example() {
        pages.block = 1;
        pages.chunk = 999;
        pages.present = {0, 0b110, 0, 0, 0, 0, 0, 0};
        pages.zero = {0, 0b100, 0, 0, 0, 0, 0, 0};
        pages.raw_bytes = kPageBytes;
        pages.payload = payload;
    }
};

TEST(PagesBody, WhatIsEncodedComesBack) {
    Random random(1);
    const auto payload = random_bytes(random, kChunkBytes);
    for (size_t round = 0; round < 200; ++round) {
        PagesBody pages;
        pages.block = 1;
        pages.chunk = random_below(random, kBlockChunks[1]);
        for (size_t i = 0; i < pages.present.size(); ++i) {
            pages.present[i] = random() & random();
            pages.zero[i] = pages.present[i] & random();
            pages.delta[i] = pages.filled()[i] & random();
        }
        pages.raw_bytes = raw_bytes_of(pages);
        pages.payload = std::span(payload).first(pages.raw_bytes);
        const auto body = encode(pages);
        const auto decoded = decode_pages(body, kBlockChunks, DeltaPages::kAccepted);
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        EXPECT_EQ(decoded->chunk, pages.chunk);
        EXPECT_EQ(decoded->present, pages.present);
        EXPECT_EQ(decoded->zero, pages.zero);
        EXPECT_EQ(decoded->delta, pages.delta);
        EXPECT_TRUE(std::ranges::equal(decoded->payload, pages.payload));
    }
}

TEST(PagesBody, AFullChunkAndAChunkOfZerosAreAccepted) {
    const std::vector<std::byte> payload(kChunkBytes, std::byte{1});
    PagesBody pages;
    pages.present.fill(~uint64_t{0});
    pages.raw_bytes = kChunkBytes;
    pages.payload = payload;
    EXPECT_EQ(encode(pages).size(), kMaxPagesBodyBytes);
    EXPECT_TRUE(decode_pages(encode(pages), kBlockChunks).ok());
    pages.zero = pages.present;
    pages.raw_bytes = 0;
    pages.payload = {};
    EXPECT_TRUE(decode_pages(encode(pages), kBlockChunks).ok());
}

TEST(PagesBody, EveryLieIsRejectedWithItsReason) {
    struct Lie {
        const char* reason;
        std::function<void(Example&)> tell;
    };
    const std::vector<Lie> lies{
        {"RAM block 2, but there are 2", [](Example& e) { e.pages.block = 2; }},
        {"RAM block 4294967295", [](Example& e) { e.pages.block = ~0u; }},
        {"chunk 1000 of RAM block 1", [](Example& e) { e.pages.chunk = 1000; }},
        {"chunk 18446744073709551615", [](Example& e) { e.pages.chunk = ~uint64_t{0}; }},
        {"chunk 999 of RAM block 0", [](Example& e) { e.pages.block = 0; }},
        {"without a page", [](Example& e) { e.pages.present = e.pages.zero = {}; }},
        {"zero page that is not present", [](Example& e) { e.pages.zero[7] = 1; }},
        {"delta page that has no payload", [](Example& e) { e.pages.delta[1] = 0b100; }},
        {"delta page that has no payload", [](Example& e) { e.pages.delta[0] = 1; }},
        {"raw bytes announced", [](Example& e) { e.pages.raw_bytes = 0; }},
        {"raw bytes announced", [](Example& e) { e.pages.raw_bytes = 2 * kPageBytes; }},
        {"raw bytes announced", [](Example& e) { e.pages.raw_bytes = ~0u; }},
        {"raw bytes announced", [](Example& e) { e.pages.zero = {}; }},
        {"a payload of 4095", [](Example& e) { e.payload.resize(4095); }},
        {"a payload of 4097", [](Example& e) { e.payload.resize(4097); }},
        {"a payload of 0", [](Example& e) { e.payload.clear(); }},
        {"a payload of 4096", [](Example& e) { e.pages.codec = PageCodec::kLz4; }},
        {"a payload of 0",
         [](Example& e) {
             e.pages.codec = PageCodec::kLz4;
             e.payload.clear();
         }},
        {"a payload of 4096", [](Example& e) { e.pages.codec = PageCodec::kZstd; }},
        {"a payload of 0",
         [](Example& e) {
             e.pages.codec = PageCodec::kZstd;
             e.payload.clear();
         }},
        {"a payload of 1 bytes for 0",
         [](Example& e) {
             e.pages.codec = PageCodec::kLz4;
             e.pages.zero = e.pages.present;
             e.pages.raw_bytes = 0;
             e.payload.resize(1);
         }},
        {"unknown page codec 3", [](Example& e) { e.pages.codec = static_cast<PageCodec>(3); }},
    };
    for (const Lie& lie : lies) {
        Example example;
        lie.tell(example);
        example.pages.payload = example.payload;
        const auto status =
            decode_pages(encode(example.pages), kBlockChunks, DeltaPages::kAccepted).status();
        EXPECT_TRUE(absl::IsInvalidArgument(status)) << lie.reason;
        EXPECT_THAT(status.message(), HasSubstr(lie.reason));
    }
}

TEST(PagesBody, ADeltaIsRefusedWhereThereIsNothingToApplyItTo) {
    Example example;
    example.pages.delta = example.pages.filled();
    const auto body = encode(example.pages);
    EXPECT_TRUE(decode_pages(body, kBlockChunks, DeltaPages::kAccepted).ok());
    const auto status = decode_pages(body, kBlockChunks).status();
    EXPECT_TRUE(absl::IsInvalidArgument(status));
    EXPECT_THAT(status.message(), HasSubstr("nothing to apply it to"));
}

TEST(PagesBody, EveryShorterBodyAndEveryReservedBitIsRejected) {
    const Example example;
    auto body = encode(example.pages);
    ASSERT_TRUE(decode_pages(body, kBlockChunks).ok());
    for (size_t size = 0; size < body.size(); ++size)
        EXPECT_FALSE(decode_pages(std::span(body).first(size), kBlockChunks).ok()) << size;
    for (size_t bit = 209 * 8; bit < 248 * 8; ++bit) {
        body[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(decode_pages(body, kBlockChunks).ok()) << bit;
        body[bit / 8] ^= std::byte{1} << (bit % 8);
    }
}

TEST(PagesBody, TheChecksumOfRawPagesIsMadeOfTheirHashes) {
    Random random(3);
    const auto payload = random_bytes(random, 5 * kPageBytes);
    PagesBody pages;
    pages.block = 1;
    pages.present = {0b11111};
    pages.raw_bytes = raw_bytes_of(pages);
    pages.payload = payload;
    auto body = encode(pages);
    std::vector<Hash128> hashes;
    for (size_t i = 0; i < 5; ++i)
        hashes.push_back(hash_bytes(std::span(payload).subspan(i * kPageBytes, kPageBytes)));
    const uint64_t checksum = checksum_pages(std::span(body).first(kPagesHeadBytes), hashes);
    EXPECT_EQ(checksum_pages(body), checksum);
    EXPECT_EQ(checksum_body(FrameKind::kPages, body), checksum);
    for (size_t i = 0; i < 200; ++i) {
        const size_t at = random_below(random, body.size());
        body[at] ^= std::byte{1};
        EXPECT_NE(checksum_pages(body), checksum) << at;
        body[at] ^= std::byte{1};
    }
    body.pop_back();
    EXPECT_NE(checksum_pages(body), checksum) << "a piece that is shorter";
}

TEST(PagesBody, OfADamagedFrameTheHeadSaysWhoseItWas) {
    const Example example;
    auto body = encode(example.pages);
    body.back() ^= std::byte{1};
    const auto place = decode_damaged_pages(body, kBlockChunks);
    ASSERT_TRUE(place.ok()) << place.status();
    EXPECT_EQ(place->block, example.pages.block);
    EXPECT_EQ(place->chunk, example.pages.chunk);
    EXPECT_EQ(place->present, example.pages.present);
    for (size_t at = 0; at < kPagesHeadBytes; ++at) {
        body[at] ^= std::byte{4};
        EXPECT_TRUE(absl::IsDataLoss(decode_damaged_pages(body, kBlockChunks).status())) << at;
        body[at] ^= std::byte{4};
    }
    EXPECT_FALSE(decode_damaged_pages(std::span(body).first(100), kBlockChunks).ok());
    constexpr std::array<uint64_t, 1> kOneBlock{4};
    EXPECT_TRUE(absl::IsInvalidArgument(decode_damaged_pages(body, kOneBlock).status()));
}

TEST(PagesBody, RandomHeadsNeverDescribePagesThatAreNotThere) {
    Random random(2);
    for (size_t round = 0; round < 20000; ++round) {
        // A right body with a few bytes replaced reaches deeper than noise.
        auto body = encode(Example().pages);
        for (size_t i = 0; i <= random_below(random, 3); ++i)
            body[random_below(random, kPagesHeadBytes)] = static_cast<std::byte>(random());
        const auto pages = decode_pages(body, kBlockChunks, DeltaPages::kAccepted);
        if (!pages.ok()) continue;
        EXPECT_LT(pages->block, kBlockChunks.size());
        EXPECT_LT(pages->chunk, kBlockChunks[pages->block]);
        EXPECT_EQ(pages->raw_bytes, raw_bytes_of(*pages));
        EXPECT_LE(pages->payload.size(), pages->raw_bytes);
        for (size_t i = 0; i < pages->delta.size(); ++i)
            EXPECT_EQ(pages->delta[i] & ~pages->filled()[i], 0u);
    }
}

TEST(ChunkMask, IsTheChunksPartOfABitmap) {
    PageBitmap bitmap(3 * kPagesPerChunk);
    bitmap.set(kPagesPerChunk - 1);
    bitmap.set(kPagesPerChunk);
    bitmap.set(kPagesPerChunk + 70);
    bitmap.set(2 * kPagesPerChunk);
    const ChunkMask mask = chunk_mask(bitmap, 1);
    EXPECT_EQ(count_pages(mask), 2u);
    EXPECT_EQ(mask[0], 1u);
    EXPECT_EQ(mask[1], uint64_t{1} << 6);
    EXPECT_EQ(count_pages(chunk_mask(bitmap, 3)), 0u);
}

TEST(ChunkMask, RunsAreMaximalAndAscending) {
    Random random(3);
    for (size_t round = 0; round < 200; ++round) {
        PageBitmap bitmap(kPagesPerChunk);
        for (size_t i = 0; i < random_below(random, 10); ++i) {
            const PageIndex begin = random_below(random, kPagesPerChunk);
            bitmap.set_range({begin, begin + random_below(random, kPagesPerChunk - begin + 1)});
        }
        std::vector<PageRange> expected;
        bitmap.for_each_run([&](PageRange run) { expected.push_back(run); });
        std::vector<PageRange> runs;
        for_each_run(chunk_mask(bitmap, 0), [&](PageRange run) { runs.push_back(run); });
        EXPECT_EQ(runs, expected);
    }
}

}  // namespace
}  // namespace godwit
