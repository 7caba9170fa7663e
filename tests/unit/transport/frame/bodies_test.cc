#include "transport/frame/bodies.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>

#include "tests/unit/transport/random_bytes.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

constexpr std::array<uint64_t, 2> kChunkCounts{10, kMaxVerifyChunks + 10};
constexpr uint64_t kHuge = ~uint64_t{0};

TEST(Bodies, EveryBodyComesBack) {
    Random random(1);
    HelloBody hello;
    for (std::byte& byte : hello.token) byte = static_cast<std::byte>(random());
    EXPECT_EQ(HelloBody::decode(hello.encode())->token, hello.token);
    EXPECT_EQ(MarkerBody::decode(MarkerBody{77}.encode())->round, 77u);
    const auto ack = MarkerAckBody::decode(MarkerAckBody{5, 6}.encode());
    EXPECT_EQ(ack->round, 5u);
    EXPECT_EQ(ack->stream, 6u);
    EXPECT_EQ(DeviceStateEndBody::decode(DeviceStateEndBody{kHuge}.encode())->total_bytes, kHuge);
    EXPECT_EQ(TextBody::decode(TextBody{"no disk"}.encode())->text, "no disk");
    EXPECT_EQ(PingBody::decode(PingBody{99}.encode())->nonce, 99u);
    const VerifyChunksBody chunks{1, 3, {{1, 2}, {3, 4}, {kHuge, 0}}};
    const auto decoded = VerifyChunksBody::decode(chunks.encode(), kChunkCounts);
    EXPECT_EQ(decoded->first_chunk, 3u);
    EXPECT_EQ(decoded->hashes, chunks.hashes);
    const VerifyResultBody result{1, 3, 4, {3, 6}};
    EXPECT_EQ(VerifyResultBody::decode(result.encode(), kChunkCounts)->different, result.different);
    VerifyPagesBody pages{.block = 1, .chunk = 9};
    for (Hash128& hash : pages.hashes) hash = {random(), random()};
    const auto pages_back = VerifyPagesBody::decode(pages.encode(), kChunkCounts);
    EXPECT_EQ(pages_back->chunk, 9u);
    EXPECT_EQ(pages_back->hashes, pages.hashes);
    const VerifyPagesResultBody which{{1, 2, kHuge}};
    EXPECT_EQ(VerifyPagesResultBody::decode(which.encode())->different, which.different);
}

TEST(Bodies, AListOfMissingPagesComesBack) {
    Random random(2);
    std::vector<ChunkPages> list(kMaxMissingChunks);
    for (size_t i = 0; i < list.size(); ++i) {
        list[i] = {.block = 1, .chunk = i};
        for (uint64_t& word : list[i].pages) word = random() | 1;
    }
    const auto back = decode_chunk_pages(encode_chunk_pages(list), kChunkCounts, kMaxMissingChunks);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(*back, list);
    const auto request =
        PageRequestBody::decode(PageRequestBody{.block = 1, .page = 777}.encode(), kChunkCounts);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->block, 1u);
    EXPECT_EQ(request->page, 777u);
}

TEST(Bodies, PagesThatDoNotExistAreRejected) {
    const auto decode = [](ChunkPages entry, size_t limit) {
        return decode_chunk_pages(encode_chunk_pages(std::span(&entry, 1)), kChunkCounts, limit)
            .status();
    };
    const ChunkMask some{1};
    EXPECT_TRUE(decode({.block = 0, .chunk = 9, .pages = some}, 1).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(decode({.block = 0, .chunk = 10, .pages = some}, 1)));
    EXPECT_TRUE(absl::IsInvalidArgument(decode({.block = 2, .chunk = 0, .pages = some}, 1)));
    EXPECT_TRUE(absl::IsInvalidArgument(decode({.block = 0, .chunk = 9}, 1)));  // no page at all
    const std::vector<ChunkPages> two(2, ChunkPages{.pages = some});
    EXPECT_TRUE(absl::IsInvalidArgument(
        decode_chunk_pages(encode_chunk_pages(two), kChunkCounts, 1).status()));
    const auto page = [](BlockIndex block, PageIndex index) {
        return PageRequestBody::decode(PageRequestBody{.block = block, .page = index}.encode(),
                                       kChunkCounts)
            .status();
    };
    EXPECT_TRUE(page(0, 10 * kPagesPerChunk - 1).ok());
    EXPECT_TRUE(absl::IsInvalidArgument(page(0, 10 * kPagesPerChunk)));
    EXPECT_TRUE(absl::IsInvalidArgument(page(2, 0)));
    EXPECT_TRUE(absl::IsInvalidArgument(page(0, kHuge)));
}

TEST(Bodies, EveryBodyStaysWithinTheBoundsOfItsKind) {
    const auto fits = [](FrameKind kind, const FrameBytes& body) {
        EXPECT_TRUE(check_body_bound(kind, body.size()).ok()) << frame_kind_name(kind);
    };
    fits(FrameKind::kHello, HelloBody{}.encode());
    fits(FrameKind::kMarker, MarkerBody{}.encode());
    fits(FrameKind::kMarkerAck, MarkerAckBody{}.encode());
    fits(FrameKind::kDeviceStateEnd, DeviceStateEndBody{}.encode());
    fits(FrameKind::kAbort, TextBody{std::string(100000, 'x')}.encode());
    fits(FrameKind::kRefused, TextBody{}.encode());
    fits(FrameKind::kPing, PingBody{}.encode());
    fits(FrameKind::kVerifyChunks,
         VerifyChunksBody{0, 0, std::vector<Hash128>(kMaxVerifyChunks)}.encode());
    fits(FrameKind::kVerifyChunks, VerifyChunksBody{0, 0, std::vector<Hash128>(1)}.encode());
    fits(FrameKind::kVerifyResult,
         VerifyResultBody{0, 0, kMaxVerifyChunks, std::vector<ChunkIndex>(kMaxVerifyChunks)}
             .encode());
    fits(FrameKind::kVerifyResult, VerifyResultBody{0, 0, 1, {}}.encode());
    fits(FrameKind::kVerifyPages, VerifyPagesBody{}.encode());
    fits(FrameKind::kPunch, encode_chunk_pages(std::vector<ChunkPages>(1)));
    fits(FrameKind::kMissing, encode_chunk_pages(std::vector<ChunkPages>(kMaxMissingChunks)));
    EXPECT_TRUE(check_body_bound(FrameKind::kPageRequest, PageRequestBody{}.encode().size()).ok());
    fits(FrameKind::kVerifyPagesResult, VerifyPagesResultBody{}.encode());
    fits(FrameKind::kDamaged, DamagedBody{}.encode());
}

TEST(Bodies, DamagedPagesKeepTheirPlaceAndTheirStream) {
    DamagedBody damaged{.stream = 7, .pages = {.block = 0, .chunk = kChunkCounts[0] - 1}};
    damaged.pages.pages[3] = 0x8001;
    const auto decoded = DamagedBody::decode(damaged.encode(), kChunkCounts);
    ASSERT_TRUE(decoded.ok()) << decoded.status();
    EXPECT_EQ(decoded->stream, 7);
    EXPECT_EQ(decoded->pages, damaged.pages);
    for (const DamagedBody& wrong :
         {DamagedBody{.pages = {.block = 0}},  // no page
          DamagedBody{.pages = {.block = 9, .pages = {1}}},
          DamagedBody{.pages = {.block = 0, .chunk = kChunkCounts[0], .pages = {1}}}})
        EXPECT_FALSE(DamagedBody::decode(wrong.encode(), kChunkCounts).ok());
}

TEST(Bodies, AnyOtherLengthIsRejected) {
    using Decode = std::function<absl::Status(std::span<const std::byte>)>;
    const std::vector<std::pair<FrameBytes, Decode>> bodies{
        {HelloBody{}.encode(), [](auto b) { return HelloBody::decode(b).status(); }},
        {MarkerBody{}.encode(), [](auto b) { return MarkerBody::decode(b).status(); }},
        {MarkerAckBody{}.encode(), [](auto b) { return MarkerAckBody::decode(b).status(); }},
        {DeviceStateEndBody{}.encode(),
         [](auto b) { return DeviceStateEndBody::decode(b).status(); }},
        {DamagedBody{.pages = {.pages = {1}}}.encode(),
         [](auto b) { return DamagedBody::decode(b, kChunkCounts).status(); }},
        {PingBody{}.encode(), [](auto b) { return PingBody::decode(b).status(); }},
        {VerifyPagesBody{}.encode(),
         [](auto b) { return VerifyPagesBody::decode(b, kChunkCounts).status(); }},
        {VerifyPagesResultBody{}.encode(),
         [](auto b) { return VerifyPagesResultBody::decode(b).status(); }},
        {VerifyChunksBody{0, 0, {{1, 2}}}.encode(),
         [](auto b) { return VerifyChunksBody::decode(b, kChunkCounts).status(); }},
        {VerifyResultBody{0, 0, 2, {1}}.encode(),
         [](auto b) { return VerifyResultBody::decode(b, kChunkCounts).status(); }},
    };
    for (const auto& [body, decode] : bodies) {
        EXPECT_TRUE(decode(body).ok());
        FrameBytes longer = body;
        longer.push_back(std::byte{0});
        EXPECT_TRUE(absl::IsInvalidArgument(decode(longer)));
        // A result without its last difference is a result as well.
        const size_t shortest_right = body.size() == 24 ? 16 : body.size();
        for (size_t size = 0; size < body.size(); ++size) {
            if (size == shortest_right) continue;
            EXPECT_TRUE(absl::IsInvalidArgument(decode(std::span(body).first(size)))) << size;
        }
    }
}

TEST(Bodies, ATextCannotWriteLinesIntoALog) {
    const auto text = TextBody::decode(TextBody{"a\nb\x1b[31m\r\x7f é"}.encode());
    ASSERT_TRUE(text.ok());
    EXPECT_EQ(text->text, "a?b?[31m?? é");
    const auto bytes = TextBody::decode(TextBody{"disk \xff\xc3 is full\xc3"}.encode());
    ASSERT_TRUE(bytes.ok());
    EXPECT_EQ(bytes->text, "disk ?? is full?");
    const FrameBytes too_long(kMaxTextBytes + 1, std::byte{'x'});
    EXPECT_FALSE(TextBody::decode(too_long).ok());
}

TEST(Bodies, ChunksThatDoNotExistAreNotVerified) {
    const auto rejected = [](const VerifyChunksBody& body) {
        return absl::IsInvalidArgument(
            VerifyChunksBody::decode(body.encode(), kChunkCounts).status());
    };
    EXPECT_TRUE(rejected({2, 0, {{}}}));
    EXPECT_TRUE(rejected({0, 10, {{}}}));
    EXPECT_TRUE(rejected({0, 9, {{}, {}}}));
    EXPECT_TRUE(rejected({0, kHuge, {{}}}));
    EXPECT_TRUE(rejected({0, kHuge, {{}, {}}}));
    EXPECT_TRUE(rejected({0, 0, {}}));
    EXPECT_TRUE(rejected({1, 0, std::vector<Hash128>(kMaxVerifyChunks + 1)}));
    EXPECT_FALSE(rejected({0, 9, {{}}}));
    for (const VerifyPagesBody& pages : {VerifyPagesBody{.block = 2}, VerifyPagesBody{.chunk = 10},
                                         VerifyPagesBody{.chunk = kHuge}})
        EXPECT_FALSE(VerifyPagesBody::decode(pages.encode(), kChunkCounts).ok());
}

TEST(Bodies, ADifferenceOutsideWhatWasVerifiedIsRejected) {
    const auto rejected = [](const VerifyResultBody& body) {
        return absl::IsInvalidArgument(
            VerifyResultBody::decode(body.encode(), kChunkCounts).status());
    };
    EXPECT_FALSE(rejected({0, 2, 3, {2, 3, 4}}));
    EXPECT_TRUE(rejected({0, 2, 3, {5}}));
    EXPECT_TRUE(rejected({0, 2, 3, {1}}));
    EXPECT_TRUE(rejected({0, 2, 3, {kHuge}}));
    EXPECT_TRUE(rejected({0, 2, 3, {3, 3}}));
    EXPECT_TRUE(rejected({0, 2, 3, {4, 3}}));
    EXPECT_TRUE(rejected({0, 2, 3, {2, 3, 4, 5}}));
    EXPECT_TRUE(rejected({0, 2, 0, {}}));
    EXPECT_TRUE(rejected({0, 2, 9, {}}));
    EXPECT_TRUE(rejected({1, 0, ~0u, {}}));
}

TEST(Bodies, TokensAreEqualOnlyWhenEveryBitIs) {
    Random random(2);
    SessionToken token{};
    for (std::byte& byte : token) byte = static_cast<std::byte>(random());
    EXPECT_TRUE(equal_tokens(token, token));
    for (size_t bit = 0; bit < 256; ++bit) {
        SessionToken other = token;
        other[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(equal_tokens(token, other)) << bit;
    }
}

TEST(Bodies, RandomBodiesAreDecodedOrRejected) {
    Random random(3);
    for (size_t round = 0; round < 20000; ++round) {
        auto body = random_bytes(random, random_below(random, 100));
        // Small numbers in front reach past the first checks.
        for (size_t i = 0; i < std::min<size_t>(body.size(), 16); ++i)
            if (i % 4 != 0 || random_below(random, 2) == 0) body[i] = std::byte{0};
        (void)HelloBody::decode(body);
        (void)MarkerBody::decode(body);
        (void)MarkerAckBody::decode(body);
        (void)DeviceStateEndBody::decode(body);
        (void)TextBody::decode(body);
        (void)PingBody::decode(body);
        (void)VerifyPagesBody::decode(body, kChunkCounts);
        (void)VerifyPagesResultBody::decode(body);
        const auto chunks = VerifyChunksBody::decode(body, kChunkCounts);
        if (chunks.ok()) {
            EXPECT_EQ(chunks->encode(), body);
        }
        const auto result = VerifyResultBody::decode(body, kChunkCounts);
        if (result.ok()) {
            EXPECT_EQ(result->encode(), body);
        }
    }
}

}  // namespace
}  // namespace godwit
