#include "transport/stream/handshake.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <thread>

#include "engine/base/wait.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/stream/channel_pairs.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"

namespace godwit {
namespace {

HelloExpectation some_expectation() {
    Random random(1);
    HelloExpectation expected{.generation = 2, .stream_count = 4};
    for (std::byte& byte : expected.migration_id) byte = static_cast<std::byte>(random());
    for (std::byte& byte : expected.token) byte = static_cast<std::byte>(random());
    return expected;
}

FrameRoute route_of(const HelloExpectation& expected, uint16_t stream) {
    return {expected.migration_id, stream, expected.generation};
}

std::array<std::byte, kHelloFrameBytes> greeting(const FrameRoute& route,
                                                 const SessionToken& token) {
    auto [near, far] = unix_pair();
    EXPECT_TRUE(
        FrameWriter(*near, route, 0).send(FrameKind::kHello, HelloBody{token}.encode()).ok());
    std::array<std::byte, kHelloFrameBytes> bytes{};
    EXPECT_TRUE(far->receive(bytes).ok());
    return bytes;
}

TEST(Handshake, BothEndsAgreeOnTheStreamAndGoOn) {
    const HelloExpectation expected = some_expectation();
    auto [near, far] = tcp_pair();
    std::jthread client([&, own = near.get()] {
        ASSERT_TRUE(client_hello(*own, route_of(expected, 3), expected.token).ok());
        FrameWriter writer(*own, route_of(expected, 3));
        EXPECT_TRUE(writer.send(FrameKind::kCommit).ok());
    });
    const auto route = server_hello(*far, expected);
    ASSERT_TRUE(route.ok()) << route.status();
    EXPECT_EQ(*route, route_of(expected, 3));
    FrameReader reader(*far, *route);
    EXPECT_TRUE(reader.next().ok());
}

TEST(Handshake, AStrangerGetsNoAnswerAndTheReasonStaysHere) {
    const HelloExpectation expected = some_expectation();
    auto [near, far] = tcp_pair();
    std::jthread stranger([&, own = near.get()] {
        const auto status = client_hello(*own, route_of(expected, 0), SessionToken{});
        EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
        EXPECT_EQ(own->received_bytes(), 0u);
    });
    EXPECT_TRUE(absl::IsPermissionDenied(server_hello(*far, expected).status()));
    far.reset();
}

TEST(Handshake, ADestinationThatStaysSilentIsGivenUp) {
    const HelloExpectation expected = some_expectation();
    auto [near, far] = tcp_pair();
    const auto late =
        client_hello(*near, route_of(expected, 0), expected.token, Clock::system().now());
    EXPECT_TRUE(absl::IsDeadlineExceeded(late)) << late;
    const auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    std::jthread other([&] { cancel->notify(); });
    const auto cancelled =
        client_hello(*near, route_of(expected, 0), expected.token, far_deadline(), cancel->fd());
    EXPECT_TRUE(absl::IsCancelled(cancelled)) << cancelled;
}

TEST(Handshake, AGreetingWithAnyFlippedBitIsRefused) {
    const HelloExpectation expected = some_expectation();
    const auto right = greeting(route_of(expected, 1), expected.token);
    ASSERT_EQ(*check_hello(right, expected), 1);
    for (size_t bit = 0; bit < right.size() * 8; ++bit) {
        auto bytes = right;
        bytes[bit / 8] ^= std::byte{1} << (bit % 8);
        EXPECT_FALSE(check_hello(bytes, expected).ok()) << bit;
    }
}

TEST(Handshake, AGreetingThatIsWellFormedButWrongIsRefused) {
    const HelloExpectation expected = some_expectation();
    const auto refused = [&](const FrameRoute& route, const SessionToken& token) {
        return !check_hello(greeting(route, token), expected).ok();
    };
    EXPECT_TRUE(refused(route_of(expected, 4), expected.token));
    EXPECT_TRUE(refused(route_of(expected, 0xffff), expected.token));
    FrameRoute route = route_of(expected, 0);
    ++route.generation;
    EXPECT_TRUE(refused(route, expected.token));
    route = route_of(expected, 0);
    route.migration_id[0] ^= std::byte{1};
    EXPECT_TRUE(refused(route, expected.token));
    SessionToken token = expected.token;
    token[31] ^= std::byte{0x80};
    EXPECT_TRUE(refused(route_of(expected, 0), token));
    EXPECT_FALSE(refused(route_of(expected, 0), expected.token));
}

TEST(Handshake, AClientAcceptsNothingButTheAnswer) {
    const HelloExpectation expected = some_expectation();
    auto [near, far] = unix_pair();
    FrameWriter writer(*far, route_of(expected, 0), 0);
    ASSERT_TRUE(writer.send(FrameKind::kCommit).ok());
    EXPECT_TRUE(
        absl::IsInvalidArgument(client_hello(*near, route_of(expected, 0), expected.token)));
}

// A destination that says so much and no more must not hold a migration for ever.
TEST(Handshake, ABodyThatAnAnswerAnnouncesIsNotWaitedFor) {
    const HelloExpectation expected = some_expectation();
    auto [near, far] = tcp_pair();
    std::array<std::byte, kFrameHeaderBytes> header{};
    encode_header({.kind = FrameKind::kPages,
                   .route = route_of(expected, 0),
                   .body_bytes = body_bound(FrameKind::kPages).max_bytes},
                  header);
    ASSERT_TRUE(far->send(header).ok());
    const auto status = client_hello(*near, route_of(expected, 0), expected.token, far_deadline());
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
    EXPECT_THAT(std::string(status.message()), testing::HasSubstr("stream 0 with pages"));
}

}  // namespace
}  // namespace godwit
