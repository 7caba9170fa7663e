// FrameWriter and FrameReader, from one end of a channel to the other.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <thread>
#include <vector>

#include "engine/base/hash.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/stream/channel_pairs.h"
#include "transport/frame/bodies.h"
#include "transport/stream/faulty_channel.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"

namespace godwit {
namespace {

using testing::HasSubstr;

constexpr FrameRoute kRoute{
    .migration_id = {std::byte{1}, std::byte{2}}, .stream = 3, .generation = 4};

struct Message {
    FrameKind kind = FrameKind::kPing;
    std::vector<std::byte> body;
};

std::vector<Message> random_messages(Random& random, size_t count) {
    std::vector<Message> messages;
    for (size_t i = 0; i < count; ++i) {
        switch (random_below(random, 3)) {
            case 0:
                messages.push_back({FrameKind::kDeviceState,
                                    random_bytes(random, 1 + random_below(random, 200'000))});
                break;
            case 1:
                messages.push_back(
                    {FrameKind::kAbort, random_bytes(random, random_below(random, 100))});
                break;
            default:
                messages.push_back({FrameKind::kCommit, {}});
        }
    }
    return messages;
}

// Reads until an error, which it returns; everything before it must be what was sent.
absl::Status read_all(FrameReader& reader, const std::vector<Message>& messages) {
    for (size_t i = 0;; ++i) {
        const absl::StatusOr<Frame> frame = reader.next();
        if (!frame.ok()) return frame.status();
        EXPECT_LT(i, messages.size());
        if (i >= messages.size()) return absl::InternalError("a frame that nobody sent");
        EXPECT_EQ(frame->kind(), messages[i].kind);
        EXPECT_TRUE(std::ranges::equal(frame->body, messages[i].body));
    }
}

TEST(FrameStream, FramesArriveWholeAndInOrderOverTcp) {
    Random random(1);
    const auto messages = random_messages(random, 200);
    auto [client, server] = tcp_pair();
    std::jthread sender([&messages, own = std::move(client)] {
        FrameWriter writer(*own, kRoute);
        for (const Message& message : messages)
            EXPECT_TRUE(writer.send(message.kind, message.body).ok());
        EXPECT_EQ(writer.frame_count(), messages.size());
        own->shutdown();
    });
    FrameReader reader(*server, kRoute);
    EXPECT_TRUE(absl::IsOutOfRange(read_all(reader, messages)));
    EXPECT_EQ(reader.frame_count(), messages.size());
}

TEST(FrameStream, ThreadsThatShareAWriterDoNotMixTheirFrames) {
    auto [client, server] = tcp_pair();
    FrameWriter writer(*client, kRoute);
    constexpr size_t kThreads = 4;
    constexpr size_t kFrames = 200;
    std::vector<std::jthread> threads;
    for (size_t thread = 0; thread < kThreads; ++thread)
        threads.emplace_back([&writer, thread] {
            for (size_t i = 0; i < kFrames; ++i)
                EXPECT_TRUE(
                    writer.send(FrameKind::kPing, PingBody{thread << 32 | i}.encode()).ok());
        });
    FrameReader reader(*server, kRoute);
    std::vector<uint64_t> next(kThreads);
    for (size_t i = 0; i < kThreads * kFrames; ++i) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame.ok()) << frame.status();
        const uint64_t nonce = PingBody::decode(frame->body)->nonce;
        EXPECT_EQ(nonce & 0xffffffff, next[nonce >> 32]++);
    }
}

// Sends through one fault; the reader gets a prefix of what was sent, and then an error.
absl::Status read_through(const ChannelFaults& fault, const std::vector<Message>& messages) {
    auto [near, far] = unix_pair();
    auto faulty = FaultyChannel::create(std::move(near), {.send = fault});
    EXPECT_TRUE(faulty.ok());
    std::jthread sender([&messages, own = *std::move(faulty)] {
        FrameWriter writer(*own, kRoute);
        for (const Message& message : messages)
            if (!writer.send(message.kind, message.body).ok()) return;
        own->shutdown();
    });
    FrameReader reader(*far, kRoute);
    const absl::Status status = read_all(reader, messages);
    EXPECT_EQ(reader.next().status(), status);  // and stays so
    far->shutdown();
    return status;
}

size_t size_of(const std::vector<Message>& messages) {
    size_t size = 0;
    for (const Message& message : messages) size += kFrameHeaderBytes + message.body.size();
    return size;
}

TEST(FrameStream, AFlippedBitAnywhereIsAnErrorAndNeverWrongData) {
    Random random(2);
    for (size_t round = 0; round < 150; ++round) {
        const auto messages = random_messages(random, 5);
        const auto status = read_through({.flip_byte = random_below(random, size_of(messages)),
                                          .flip_bit = unsigned(random_below(random, 8))},
                                         messages);
        EXPECT_FALSE(absl::IsOutOfRange(status)) << status;
    }
}

TEST(FrameStream, WhatIsWrongIsSaidOfItsFrameAndStream) {
    const std::vector<Message> messages{{FrameKind::kCommit, {}},
                                        {FrameKind::kPing, PingBody{1}.encode()}};
    // The second frame's header, and its body.
    for (const uint64_t byte : {kFrameHeaderBytes + 40, 2 * kFrameHeaderBytes + 3}) {
        const absl::Status status = read_through({.flip_byte = byte}, messages);
        EXPECT_TRUE(absl::IsDataLoss(status)) << status;
        EXPECT_THAT(std::string(status.message()), testing::StartsWith("Frame 2 of stream 3: "));
    }
}

TEST(FrameStream, AStreamCutAnywhereIsAnErrorAndNeverWrongData) {
    Random random(3);
    for (size_t round = 0; round < 100; ++round) {
        const auto messages = random_messages(random, 5);
        const auto status =
            read_through({.cut_after = random_below(random, size_of(messages))}, messages);
        EXPECT_TRUE(absl::IsOutOfRange(status) || absl::IsUnavailable(status)) << status;
    }
}

TEST(FrameStream, EveryPrefixOfAFrameIsAnEndInTheMiddle) {
    const std::vector<Message> messages{{FrameKind::kPing, PingBody{1}.encode()}};
    for (size_t size = 1; size < size_of(messages); ++size)
        EXPECT_TRUE(absl::IsUnavailable(read_through({.cut_after = size}, messages))) << size;
    EXPECT_TRUE(absl::IsOutOfRange(read_through({.cut_after = 0}, messages)));
}

TEST(FrameStream, AFrameOfAnotherMigrationStreamOrGenerationIsRejected) {
    for (const size_t field : {0, 1, 2}) {
        FrameRoute route = kRoute;
        if (field == 0) route.migration_id[5] = std::byte{9};
        if (field == 1) route.stream = 9;
        if (field == 2) route.generation = 9;
        auto [near, far] = unix_pair();
        FrameWriter writer(*near, route);
        ASSERT_TRUE(writer.send(FrameKind::kCommit).ok());
        FrameReader reader(*far, kRoute);
        EXPECT_FALSE(reader.next().ok()) << field;
    }
}

TEST(FrameStream, ARepeatedOrMissingFrameIsASequenceGap) {
    for (const uint64_t first : {kFirstSequence - 1, kFirstSequence + 1}) {
        auto [near, far] = unix_pair();
        FrameWriter writer(*near, kRoute, first);
        ASSERT_TRUE(writer.send(FrameKind::kCommit).ok());
        FrameReader reader(*far, kRoute);
        EXPECT_THAT(reader.next().status().message(), HasSubstr("sequence gap"));
    }
}

TEST(FrameStream, ABodyOutOfBoundsIsNotSentAndDoesNotEndTheStream) {
    auto [near, far] = unix_pair();
    FrameWriter writer(*near, kRoute);
    const std::vector<std::byte> body(kMaxDeviceStateBytes + 1);
    EXPECT_TRUE(absl::IsInvalidArgument(writer.send(FrameKind::kDeviceState, body)));
    EXPECT_TRUE(absl::IsInvalidArgument(writer.send(FrameKind::kDeviceState)));
    EXPECT_TRUE(absl::IsInvalidArgument(writer.send(static_cast<FrameKind>(99))));
    EXPECT_TRUE(writer.send(FrameKind::kCommit).ok());
    FrameReader reader(*far, kRoute);
    EXPECT_TRUE(reader.next().ok());
}

TEST(FrameStream, AWriterKeepsTheErrorThatEndedIt) {
    auto [near, far] = unix_pair();
    FrameWriter writer(*near, kRoute);
    near->shutdown();
    const absl::Status status = writer.send(FrameKind::kCommit);
    EXPECT_TRUE(absl::IsCancelled(status));
    EXPECT_EQ(writer.send(FrameKind::kPing, PingBody{}.encode()), status);
    EXPECT_EQ(writer.wait(), status);
    EXPECT_EQ(writer.frame_count(), 0u);
}

// A kPages frame of one page, as it leaves with another checksum than its own or with that.
void send_page(FrameWriter& writer, bool intact, FrameKind kind = FrameKind::kPages) {
    const auto buffer = FrameBuffer::create();
    ASSERT_TRUE(buffer.ok());
    PagesBody pages{.raw_bytes = kPageBytes};
    pages.present[0] = 1;
    encode_pages_head(pages, buffer->body().first<kPagesHeadBytes>());
    constexpr size_t kBytes = kPagesHeadBytes + kPageBytes;
    const uint64_t checksum = checksum_body(kind, buffer->body().first(kBytes));
    ASSERT_TRUE(writer.send_async(*buffer, kind, kBytes, intact ? checksum : ~checksum).ok());
    ASSERT_TRUE(writer.wait().ok());
}

TEST(FrameStream, DamagedPagesAreHandedOutToWhoAcceptsThemAndTheStreamGoesOn) {
    auto [near, far] = tcp_pair();
    std::jthread sender([own = std::move(near)] {
        FrameWriter writer(*own, kRoute);
        send_page(writer, true);
        send_page(writer, false);
        send_page(writer, true);
        send_page(writer, false, FrameKind::kFaultPages);
    });
    FrameReader reader(*far, kRoute);
    reader.accept_damaged_pages();
    for (const bool intact : {true, false, true}) {
        const auto frame = reader.next();
        ASSERT_TRUE(frame.ok()) << frame.status();
        EXPECT_EQ(frame->intact, intact);
        EXPECT_EQ(frame->body.size(), kPagesHeadBytes + kPageBytes);
    }
    // Somebody waits for these: the connection is given up.
    EXPECT_TRUE(absl::IsDataLoss(reader.next().status()));
}

TEST(FrameStream, DamagedPagesEndTheStreamOfWhoDoesNot) {
    auto [near, far] = tcp_pair();
    std::jthread sender([own = std::move(near)] {
        FrameWriter writer(*own, kRoute);
        send_page(writer, false);
    });
    FrameReader reader(*far, kRoute);
    EXPECT_TRUE(absl::IsDataLoss(reader.next().status()));
}

}  // namespace
}  // namespace godwit
