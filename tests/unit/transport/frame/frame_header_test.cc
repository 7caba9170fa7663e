#include "transport/frame/frame_header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>

#include "engine/base/hash.h"
#include "tests/unit/transport/random_bytes.h"
#include "transport/frame/byte_io.h"

namespace godwit {
namespace {

using testing::HasSubstr;
using HeaderBytes = std::array<std::byte, kFrameHeaderBytes>;

constexpr uint16_t kLastKind = static_cast<uint16_t>(FrameKind::kDamaged);

FrameHeader some_header(Random& random) {
    FrameHeader header;
    header.kind = static_cast<FrameKind>(1 + random_below(random, kLastKind));
    for (std::byte& byte : header.route.migration_id) byte = static_cast<std::byte>(random());
    header.route.stream = static_cast<uint16_t>(random());
    header.route.generation = static_cast<uint32_t>(random());
    const BodyBound bound = body_bound(header.kind);
    header.body_bytes = bound.min_bytes + static_cast<uint32_t>(random_below(
                                              random, bound.max_bytes - bound.min_bytes + 1));
    header.sequence = random();
    header.body_checksum = random();
    return header;
}

HeaderBytes encode(const FrameHeader& header) {
    HeaderBytes bytes{};
    encode_header(header, bytes);
    return bytes;
}

// Puts a lie at `offset` and a right checksum behind it.
HeaderBytes with_lie(HeaderBytes bytes, size_t offset, std::span<const std::byte> lie) {
    std::copy(lie.begin(), lie.end(), bytes.begin() + static_cast<std::ptrdiff_t>(offset));
    ByteWriter(std::span(bytes).subspan(56)).u64(checksum_bytes(std::span(bytes).first(56)));
    return bytes;
}

template <typename Number>
HeaderBytes with_number(const HeaderBytes& bytes, size_t offset, Number number) {
    std::array<std::byte, sizeof number> lie{};
    ByteWriter writer(lie);
    if constexpr (sizeof number == 2)
        writer.u16(number);
    else
        writer.u32(number);
    return with_lie(bytes, offset, lie);
}

TEST(FrameHeader, WhatIsEncodedComesBack) {
    Random random(1);
    for (size_t round = 0; round < 1000; ++round) {
        const FrameHeader header = some_header(random);
        const auto decoded = decode_header(encode(header));
        ASSERT_TRUE(decoded.ok()) << decoded.status();
        EXPECT_EQ(*decoded, header);
    }
}

TEST(FrameHeader, TheLayoutIsTheDocumentedOne) {
    FrameHeader header;
    header.kind = FrameKind::kPages;
    header.route.stream = 0x0201;
    header.body_bytes = 0x00010203;
    const HeaderBytes bytes = encode(header);
    EXPECT_EQ(std::string(reinterpret_cast<const char*>(bytes.data()), 4), "GDWT");
    EXPECT_EQ(bytes[4], std::byte{kProtocolVersion});
    EXPECT_EQ(bytes[6], std::byte{3});
    EXPECT_EQ(bytes[24], std::byte{0x01});
    EXPECT_EQ(bytes[25], std::byte{0x02});
    EXPECT_EQ(bytes[32], std::byte{0x03});
}

TEST(FrameHeader, EveryMigrationHasFrameBytesOfItsOwn) {
    EXPECT_EQ(frame_migration_id("m-1"), frame_migration_id("m-1"));
    EXPECT_NE(frame_migration_id("m-1"), frame_migration_id("m-2"));
    EXPECT_NE(frame_migration_id(""), MigrationId{});
}

TEST(FrameHeader, EverySingleFlippedBitIsRejected) {
    Random random(2);
    const HeaderBytes right = encode(some_header(random));
    for (size_t bit = 0; bit < kFrameHeaderBytes * 8; ++bit) {
        HeaderBytes bytes = right;
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(decode_header(bytes).ok()) << "bit " << bit;
    }
}

TEST(FrameHeader, RandomBytesAreRejected) {
    Random random(3);
    for (size_t round = 0; round < 10000; ++round) {
        HeaderBytes bytes{};
        for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
        EXPECT_FALSE(decode_header(bytes).ok());
    }
}

TEST(FrameHeader, BadMagicIsNotAGodwitFrame) {
    const auto status = decode_header(with_number(encode({}), 0, uint32_t{0x12345678})).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr("magic"));
}

TEST(FrameHeader, AnotherVersionIsNamedBesideOurs) {
    const auto status = decode_header(with_number(encode({}), 4, uint16_t{77})).status();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_THAT(status.message(), HasSubstr("version 77"));
    EXPECT_THAT(status.message(), HasSubstr("version " + std::to_string(kProtocolVersion)));
}

TEST(FrameHeader, AnUnknownKindIsNamed) {
    for (const uint16_t kind : {uint16_t{0}, uint16_t{kLastKind + 1}, uint16_t{0xffff}}) {
        const auto status = decode_header(with_number(encode({}), 6, kind)).status();
        EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
        EXPECT_THAT(status.message(), HasSubstr("unknown frame kind " + std::to_string(kind)));
    }
}

TEST(FrameHeader, EveryKindHasANameAndBounds) {
    for (uint16_t kind = 1; kind <= kLastKind; ++kind) {
        const BodyBound bound = body_bound(static_cast<FrameKind>(kind));
        EXPECT_LE(bound.min_bytes, bound.max_bytes);
        EXPECT_NE(frame_kind_name(static_cast<FrameKind>(kind)), "unknown");
    }
    EXPECT_EQ(frame_kind_name(static_cast<FrameKind>(0)), "unknown");
}

TEST(FrameHeader, ALengthJustOutsideTheBoundsOfItsKindIsRejected) {
    for (uint16_t kind = 1; kind <= kLastKind; ++kind) {
        FrameHeader header;
        header.kind = static_cast<FrameKind>(kind);
        const BodyBound bound = body_bound(header.kind);
        for (const uint32_t length : {bound.min_bytes, bound.max_bytes}) {
            header.body_bytes = length;
            EXPECT_TRUE(decode_header(encode(header)).ok()) << kind << ' ' << length;
        }
        for (const uint32_t length : {bound.min_bytes - 1, bound.max_bytes + 1, 0xffffffffu}) {
            header.body_bytes = length;  // min_bytes 0: wraps to 4 GiB
            EXPECT_TRUE(absl::IsInvalidArgument(decode_header(encode(header)).status()))
                << kind << ' ' << length;
        }
    }
}

TEST(FrameHeader, AReservedFieldThatIsSetIsRejected) {
    EXPECT_FALSE(decode_header(with_number(encode({}), 26, uint16_t{1})).ok());
    EXPECT_FALSE(decode_header(with_number(encode({}), 36, uint32_t{1})).ok());
}

TEST(FrameHeader, AFrameThatBelongsElsewhereIsRejectedWithItsReason) {
    Random random(4);
    const FrameHeader header = some_header(random);
    EXPECT_TRUE(check_route(header, header.route, header.sequence).ok());

    FrameRoute route = header.route;
    route.migration_id[15] ^= std::byte{1};
    EXPECT_TRUE(absl::IsPermissionDenied(check_route(header, route, header.sequence)));
    route = header.route;
    ++route.stream;
    EXPECT_THAT(check_route(header, route, header.sequence).message(), HasSubstr("stream"));
    route = header.route;
    ++route.generation;
    EXPECT_THAT(check_route(header, route, header.sequence).message(), HasSubstr("generation"));
    const auto gap = check_route(header, header.route, header.sequence + 1);
    EXPECT_TRUE(absl::IsDataLoss(gap));
    EXPECT_THAT(gap.message(), HasSubstr("sequence gap"));
}

TEST(FrameHeader, ABodyIsRejectedForAnyFlippedBitAndAnyOtherLength) {
    Random random(5);
    std::vector<std::byte> body = random_bytes(random, 100);
    FrameHeader header;
    header.kind = FrameKind::kDeviceState;
    header.body_bytes = 100;
    header.body_checksum = checksum_bytes(body);
    EXPECT_TRUE(check_body(header, body).ok());
    EXPECT_FALSE(check_body(header, std::span(body).first(99)).ok());
    for (size_t bit = 0; bit < 800; ++bit) {
        body[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_TRUE(absl::IsDataLoss(check_body(header, body)));
        body[bit / 8] ^= std::byte{1} << (bit % 8);
    }
}

}  // namespace
}  // namespace godwit
