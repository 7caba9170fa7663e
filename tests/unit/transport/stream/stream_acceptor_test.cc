#include "transport/stream/stream_acceptor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <optional>
#include <thread>
#include <vector>

#include "engine/base/wait.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/stream/channel_pairs.h"
#include "transport/stream/frame_reader.h"
#include "transport/stream/frame_writer.h"

namespace godwit {
namespace {

using testing::EndsWith;
using testing::HasSubstr;

class StreamAcceptorTest : public testing::Test {
  protected:
    void SetUp() override {
        auto listener = TcpListener::bind("127.0.0.1", 0);
        ASSERT_TRUE(listener.ok()) << listener.status();
        listener_.emplace(*std::move(listener));
        auto acceptor = StreamAcceptor::create(*listener_, expected_);
        ASSERT_TRUE(acceptor.ok()) << acceptor.status();
        acceptor_.emplace(*std::move(acceptor));
    }

    std::unique_ptr<TcpChannel> connect() {
        auto channel = connect_tcp("127.0.0.1", listener_->port(), far_deadline());
        EXPECT_TRUE(channel.ok()) << channel.status();
        return *std::move(channel);
    }

    [[nodiscard]] FrameRoute route(uint16_t stream) const {
        return {expected_.migration_id, stream, expected_.generation};
    }

    // A stream of the migration, from its greeting to its first frame.
    std::jthread client(uint16_t stream) {
        return std::jthread([this, stream] {
            const auto channel = connect();
            ASSERT_TRUE(client_hello(*channel, route(stream), expected_.token).ok());
            FrameWriter writer(*channel, route(stream));
            EXPECT_TRUE(writer.send(FrameKind::kCommit).ok());
        });
    }

    void expect_stream() {
        const auto stream = acceptor_->accept(far_deadline());
        ASSERT_TRUE(stream.ok()) << stream.status();
        FrameReader reader(*stream->channel, stream->route);
        EXPECT_TRUE(reader.next().ok());
    }

    HelloExpectation expected_{
        .migration_id = {std::byte{5}}, .stream_count = 3, .token = {std::byte{1}, std::byte{2}}};
    std::optional<TcpListener> listener_;
    std::optional<StreamAcceptor> acceptor_;
};

TEST_F(StreamAcceptorTest, AcceptsEveryStreamOnceInAnyOrder) {
    const std::jthread first = client(2);
    const std::jthread second = client(0);
    const std::jthread third = client(1);
    for (size_t i = 0; i < 3; ++i) expect_stream();
    EXPECT_EQ(acceptor_->refused_count(), 0u);
    EXPECT_TRUE(absl::IsFailedPrecondition(acceptor_->accept(far_deadline()).status()));
}

TEST_F(StreamAcceptorTest, StrangersThatAreSilentSlowOrGoneDelayNobody) {
    std::vector<std::unique_ptr<TcpChannel>> strangers;
    const std::vector<std::byte> piece(kHelloFrameBytes - 1, std::byte{0x47});
    for (size_t i = 0; i < 20; ++i) {
        strangers.push_back(connect());
        if (i % 3 == 1) {
            EXPECT_TRUE(strangers.back()->send(piece).ok());
        }
        if (i % 3 == 2) strangers.back()->shutdown();
    }
    const std::jthread stream = client(1);
    expect_stream();
}

TEST_F(StreamAcceptorTest, WrongGreetingsAreDroppedAndTheReasonIsKept) {
    Random random(1);
    const auto noise = connect();
    EXPECT_TRUE(noise->send(random_bytes(random, 5000)).ok());
    {
        const std::jthread stranger(
            [this] { EXPECT_FALSE(client_hello(*connect(), route(0), SessionToken{}).ok()); });
        const std::jthread stream = client(0);
        expect_stream();
        while (acceptor_->refused_count() < 2) {
            // The strangers may greet later than the stream.
            const auto none =
                acceptor_->accept(Clock::system().now() + std::chrono::milliseconds(1));
            EXPECT_TRUE(absl::IsDeadlineExceeded(none.status()));
        }
    }
    EXPECT_FALSE(acceptor_->last_refusal().ok());
}

TEST_F(StreamAcceptorTest, AStreamThatComesTwiceDoesNotReplaceTheFirst) {
    {
        const std::jthread stream = client(0);
        expect_stream();
    }
    const auto copy = connect();
    const std::jthread twin(
        [&] { EXPECT_FALSE(client_hello(*copy, route(0), expected_.token).ok()); });
    const std::jthread stream = client(1);
    expect_stream();
    while (acceptor_->refused_count() == 0)
        EXPECT_FALSE(acceptor_->accept(Clock::system().now() + std::chrono::milliseconds(1)).ok());
    EXPECT_TRUE(absl::IsAlreadyExists(acceptor_->last_refusal()));
}

TEST_F(StreamAcceptorTest, MoreSilentStrangersThanItWaitsForAreDroppedOldestFirst) {
    std::vector<std::unique_ptr<TcpChannel>> strangers;
    for (size_t i = 0; i < StreamAcceptor::kMaxWaiting + 20; ++i) {
        strangers.push_back(connect());
        // Taken as they come, so that the listener's queue never fills.
        if (i % 20 == 0) {
            EXPECT_TRUE(absl::IsDeadlineExceeded(
                acceptor_->accept(Clock::system().now() + std::chrono::milliseconds(1)).status()));
        }
    }
    const std::jthread stream = client(2);
    expect_stream();
    EXPECT_GE(acceptor_->refused_count(), 20u);
}

TEST_F(StreamAcceptorTest, ACrowdDoesNotKeepItBeyondItsDeadline) {
    std::vector<std::unique_ptr<TcpChannel>> crowd;
    const std::vector<std::byte> noise(kHelloFrameBytes, std::byte{0x47});
    for (size_t i = 0; i < 20; ++i) {
        crowd.push_back(connect());
        EXPECT_TRUE(crowd.back()->send(noise).ok());
    }
    EXPECT_TRUE(absl::IsDeadlineExceeded(acceptor_->accept(Clock::system().now()).status()));
    EXPECT_EQ(acceptor_->refused_count(), 0U) << "it went on with them";
}

TEST_F(StreamAcceptorTest, SaysWhoCameWhenTheStreamsDoNot) {
    const auto words = [&] {
        return std::string(acceptor_->accept(Clock::system().now() + std::chrono::milliseconds(1))
                               .status()
                               .message());
    };
    EXPECT_THAT(words(),
                HasSubstr("0 of 3 came in time; does a firewall keep the source from port " +
                          std::to_string(listener_->port())));
    {
        const std::jthread stream = client(1);
        expect_stream();
    }
    EXPECT_THAT(words(), EndsWith("1 of 3 came in time"));
    const auto stranger = connect();
    EXPECT_TRUE(stranger->send(std::vector<std::byte>(kHelloFrameBytes, std::byte{0x47})).ok());
    while (acceptor_->refused_count() == 0) (void)words();
    EXPECT_THAT(words(),
                HasSubstr("; 1 other connection was dropped, the last because of: bad magic"));
}

TEST_F(StreamAcceptorTest, EndsAtItsDeadlineAndWhenItIsCancelled) {
    EXPECT_TRUE(absl::IsDeadlineExceeded(acceptor_->accept(Clock::system().now()).status()));
    const auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    const std::jthread other([&] { cancel->notify(); });
    EXPECT_TRUE(absl::IsCancelled(acceptor_->accept(far_deadline(), cancel->fd()).status()));
}

TEST(StreamAcceptor, NeedsOneToSixtyFourStreams) {
    auto listener = TcpListener::bind("127.0.0.1", 0);
    ASSERT_TRUE(listener.ok());
    for (const uint16_t count : {uint16_t{0}, uint16_t{kMaxStreams + 1}})
        EXPECT_TRUE(absl::IsInvalidArgument(
            StreamAcceptor::create(*listener, {.stream_count = count}).status()));
}

}  // namespace
}  // namespace godwit
