#include "transport/stream/tcp_channel.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <thread>
#include <vector>

#include "engine/base/wait.h"
#include "tests/unit/transport/random_bytes.h"
#include "tests/unit/transport/ring_kinds.h"
#include "tests/unit/transport/stream/channel_pairs.h"
#include "transport/stream/socket_address.h"

namespace godwit {
namespace {

bool is_lost(const absl::Status& status) {
    return absl::IsCancelled(status) || absl::IsUnavailable(status) || absl::IsOutOfRange(status);
}

class TcpChannelTest : public testing::TestWithParam<RingKind> {
  protected:
    static ChannelPair pair(TcpOptions options = {}) {
        options.ring = GetParam();
        return tcp_pair(options);
    }
};

TEST_P(TcpChannelTest, BytesArriveInBothDirectionsAtOnceAndAreCounted) {
    Random random(1);
    const ChannelPair pair = TcpChannelTest::pair();
    TcpChannel* const client = pair.first.get();
    TcpChannel* const server = pair.second.get();
    const auto there = random_bytes(random, size_t{4} << 20);
    const auto back = random_bytes(random, size_t{3} << 20);
    std::vector<std::byte> got_there(there.size());
    std::vector<std::byte> got_back(back.size());
    {
        std::jthread a([&] { EXPECT_TRUE(client->send(there).ok()); });
        std::jthread b([&] { EXPECT_TRUE(server->send(back).ok()); });
        std::jthread c([&] { EXPECT_TRUE(client->receive(got_back).ok()); });
        EXPECT_TRUE(server->receive(got_there).ok());
    }
    EXPECT_EQ(got_there, there);
    EXPECT_EQ(got_back, back);
    EXPECT_EQ(client->sent_bytes(), there.size());
    EXPECT_EQ(client->received_bytes(), back.size());
    EXPECT_EQ(server->received_bytes(), there.size());
}

TEST_P(TcpChannelTest, AnAsynchronousSendArrivesWholeAndBeforeTheNext) {
    Random random(2);
    const ChannelPair pair = TcpChannelTest::pair();
    TcpChannel* const client = pair.first.get();
    TcpChannel* const server = pair.second.get();
    const auto first = random_bytes(random, size_t{4} << 20);
    const auto second = random_bytes(random, 1000);
    std::vector<std::byte> got(first.size() + second.size());
    std::jthread sender([&] {
        EXPECT_TRUE(client->start_send(first).ok());
        EXPECT_TRUE(client->send(second).ok());
        EXPECT_TRUE(client->finish_send().ok());
    });
    ASSERT_TRUE(server->receive(got).ok());
    EXPECT_TRUE(std::equal(first.begin(), first.end(), got.begin()));
    EXPECT_TRUE(std::equal(second.rbegin(), second.rend(), got.rbegin()));
}

TEST_P(TcpChannelTest, WhatWasSentBeforeTheChannelWasDestroyedStillArrives) {
    auto [client, server] = TcpChannelTest::pair();
    const std::vector<std::byte> bytes(50'000, std::byte{3});
    ASSERT_TRUE(client->send(bytes).ok());
    client.reset();
    std::vector<std::byte> got(bytes.size());
    EXPECT_TRUE(server->receive(got).ok());
    EXPECT_EQ(got, bytes);
    EXPECT_TRUE(absl::IsOutOfRange(server->receive(got)));
}

TEST_P(TcpChannelTest, OptionsReachTheSocket) {
    const auto [client, server] = pair({.user_timeout = std::chrono::milliseconds(7000),
                                        .send_buffer_bytes = 65536,
                                        .receive_buffer_bytes = 32768});
    const auto option = [](int socket, int level, int name) {
        int value = 0;
        socklen_t size = sizeof value;
        EXPECT_EQ(::getsockopt(socket, level, name, &value, &size), 0);
        return value;
    };
    for (const int socket : {client->fd(), server->fd()}) {
        EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_NODELAY), 1);
        EXPECT_EQ(option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT), 7000);
        EXPECT_EQ(option(socket, SOL_SOCKET, SO_KEEPALIVE), 1);
        // The kernel doubles both for its own bookkeeping (socket(7)).
        EXPECT_EQ(option(socket, SOL_SOCKET, SO_SNDBUF), 2 * 65536);
        EXPECT_EQ(option(socket, SOL_SOCKET, SO_RCVBUF), 2 * 32768);
    }
}

TEST_P(TcpChannelTest, ANearPeerGetsBoundedBuffers) {
    const ChannelPair pair = TcpChannelTest::pair();
    const int fd = static_cast<TcpChannel*>(pair.first.get())->fd();
    ASSERT_TRUE(fit_tcp_buffers(fd).ok());
    int lowat = 0;
    socklen_t size = sizeof lowat;
    ASSERT_EQ(::getsockopt(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &lowat, &size), 0);
    EXPECT_EQ(lowat, 1 << 20);
    int bytes = 0;
    ASSERT_EQ(::getsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, &size), 0);
    EXPECT_LE(bytes, 2 << 20) << "the kernel doubles what it is asked for";
    EXPECT_FALSE(fit_tcp_buffers(-1).ok());
}

TEST_P(TcpChannelTest, ShutdownEndsABlockedReceive) {
    for (const bool tcp : {true, false}) {
        const ChannelPair pair = tcp ? TcpChannelTest::pair() : unix_pair(GetParam());
        TcpChannel* const client = pair.first.get();
        TcpChannel* const server = pair.second.get();
        std::jthread receiver([&] {
            std::vector<std::byte> bytes(10);
            EXPECT_TRUE(absl::IsCancelled(client->receive(bytes)));
        });
        client->shutdown();
        receiver.join();
        std::vector<std::byte> bytes(10);
        EXPECT_TRUE(absl::IsCancelled(client->receive(bytes)));
        EXPECT_TRUE(absl::IsOutOfRange(server->receive(bytes)));
    }
}

TEST_P(TcpChannelTest, ShutdownEndsABlockedSend) {
    for (const bool tcp : {true, false}) {
        const ChannelPair pair = tcp ? TcpChannelTest::pair() : unix_pair(GetParam());
        TcpChannel* const client = pair.first.get();
        TcpChannel* const server = pair.second.get();
        const std::vector<std::byte> bytes(size_t{64} << 20);  // more than any socket buffer
        std::jthread sender([&] { EXPECT_TRUE(absl::IsCancelled(client->send(bytes))); });
        std::vector<std::byte> got(1);
        ASSERT_TRUE(server->receive(got).ok());  // it has begun
        client->shutdown();
        sender.join();
        EXPECT_TRUE(absl::IsCancelled(client->send(bytes)));
    }
}

TEST_P(TcpChannelTest, ShutdownEndsAnAsynchronousSendThatNobodyReads) {
    const ChannelPair pair = TcpChannelTest::pair();
    TcpChannel* const client = pair.first.get();
    const std::vector<std::byte> bytes(size_t{64} << 20);
    ASSERT_TRUE(client->start_send(bytes).ok());
    std::jthread other([&] { client->shutdown(); });
    EXPECT_TRUE(absl::IsCancelled(client->finish_send()));
}

// Its host acknowledges, and has no more room: that is no sign of life of the peer.
TEST_P(TcpChannelTest, APeerThatTakesNothingIsGivenUpAfterItsTimeout) {
    const ChannelPair pair = TcpChannelTest::pair({.user_timeout = std::chrono::milliseconds(200)});
    const std::vector<std::byte> bytes(size_t{64} << 20);
    const absl::Status status = pair.first->send(bytes);
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    // Of a send that had carried some bytes io_uring gives these, and not its error.
    EXPECT_THAT(std::string(status.message()),
                testing::AnyOf(testing::HasSubstr("ETIMEDOUT"),
                               testing::HasSubstr("took nothing for too long")));
}

TEST_P(TcpChannelTest, TheEndOfThePeerEndsBothDirections) {
    ChannelPair pair = TcpChannelTest::pair();
    TcpChannel* const client = pair.first.get();
    const std::vector<std::byte> bytes(size_t{64} << 20);
    std::jthread sender([&] { EXPECT_TRUE(is_lost(client->send(bytes))); });
    std::vector<std::byte> got(1);
    ASSERT_TRUE(pair.second->receive(got).ok());
    pair.second.reset();
    sender.join();
    EXPECT_TRUE(is_lost(client->receive(got)));
}

INSTANTIATE_TEST_SUITE_P(Rings, TcpChannelTest, kRingKinds, name_of_kind);

TEST(TcpListener, AcceptEndsAtItsDeadlineAndWhenItIsCancelled) {
    auto listener = TcpListener::bind("localhost", 0);
    ASSERT_TRUE(listener.ok()) << listener.status();
    EXPECT_NE(listener->port(), 0);
    EXPECT_TRUE(absl::IsDeadlineExceeded(listener->accept(Clock::system().now()).status()));
    const auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    std::jthread other([&] { cancel->notify(); });
    EXPECT_TRUE(absl::IsCancelled(listener->accept(std::nullopt, cancel->fd()).status()));
}

TEST(TcpListener, APortThatIsTakenIsNamed) {
    const auto first = TcpListener::bind("127.0.0.1", 0);
    ASSERT_TRUE(first.ok());
    const auto second = TcpListener::bind("127.0.0.1", first->port());
    EXPECT_TRUE(absl::IsAlreadyExists(second.status())) << second.status();
    EXPECT_NE(second.status().message().find(std::to_string(first->port())), std::string::npos);
}

// A listener whose queue is full: the next connect() waits.
class FullListener {
  public:
    // Not valid() where this host has no such address.
    explicit FullListener(const char* host = "127.0.0.1", uint16_t port = 0) {
        const auto addresses = resolve_address(host, port, true);
        EXPECT_TRUE(addresses.ok()) << addresses.status();
        const addrinfo& address = **addresses;
        socket_.reset(::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
        valid_ = ::bind(socket_.get(), address.ai_addr, address.ai_addrlen) == 0;
        if (!valid_) return;
        EXPECT_EQ(::listen(socket_.get(), 0), 0);
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        EXPECT_EQ(::getsockname(socket_.get(), reinterpret_cast<sockaddr*>(&bound), &size), 0);
        // At the same place in both families.
        port_ = ntohs(reinterpret_cast<const sockaddr_in*>(&bound)->sin_port);
        for (size_t i = 0; i < 4; ++i) {
            UniqueFd peer(
                ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
            (void)::connect(peer.get(), reinterpret_cast<sockaddr*>(&bound), size);
            peers_.push_back(std::move(peer));
        }
    }
    [[nodiscard]] uint16_t port() const { return port_; }
    [[nodiscard]] bool valid() const { return valid_; }

  private:
    UniqueFd socket_;
    bool valid_ = false;
    uint16_t port_ = 0;
    std::vector<UniqueFd> peers_;
};

TEST(ConnectTcp, EndsAtItsDeadlineAndWhenItIsCancelled) {
    const FullListener listener;
    const auto late = connect_tcp("127.0.0.1", listener.port(), Clock::system().now());
    EXPECT_TRUE(absl::IsDeadlineExceeded(late.status())) << late.status();
    const auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    std::jthread other([&] { cancel->notify(); });
    const auto cancelled = connect_tcp("127.0.0.1", listener.port(), far_deadline(), cancel->fd());
    EXPECT_TRUE(absl::IsCancelled(cancelled.status())) << cancelled.status();
}

// As of a host that has IPv6 addresses and a firewall that drops it.
TEST(ConnectTcp, AnAddressThatTakesNoConnectionsLeavesTimeForTheNext) {
    const auto listener = TcpListener::bind("127.0.0.1", 0);
    ASSERT_TRUE(listener.ok());
    const FullListener silent("::1", listener->port());
    if (!silent.valid()) GTEST_SKIP() << "there is no IPv6 on this host's loopback";
    // No name: the addresses of this host itself, ::1 before 127.0.0.1.
    const auto channel =
        connect_tcp("", listener->port(), Clock::system().now() + std::chrono::seconds(2));
    EXPECT_TRUE(channel.ok()) << channel.status();
}

TEST(ConnectTcp, ARefusedConnectionNamesTheAddressAndTheReason) {
    uint16_t port = 0;
    {
        const auto listener = TcpListener::bind("127.0.0.1", 0);
        ASSERT_TRUE(listener.ok());
        port = listener->port();
    }
    const auto status = connect_tcp("127.0.0.1", port, far_deadline()).status();
    EXPECT_TRUE(absl::IsUnavailable(status)) << status;
    EXPECT_NE(status.message().find("ECONNREFUSED"), std::string::npos);
    EXPECT_NE(status.message().find(std::to_string(port)), std::string::npos);
}

TEST(ConnectTcp, AHostThatIsNoneIsNotFound) {
    const auto status = connect_tcp("999.1.1.1.invalid", 1, far_deadline()).status();
    EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

}  // namespace
}  // namespace godwit
