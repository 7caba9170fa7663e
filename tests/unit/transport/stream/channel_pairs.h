// Connected channels for tests.
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <memory>
#include <utility>

#include "transport/stream/loopback_channel.h"
#include "transport/stream/tcp_channel.h"
#include "transport/stream/tcp_listener.h"

namespace godwit {

using ChannelPair = std::pair<std::unique_ptr<TcpChannel>, std::unique_ptr<TcpChannel>>;

// Far beyond what anything here takes: a test that gets there has failed.
inline MonotonicTime far_deadline() { return Clock::system().now() + std::chrono::seconds(50); }

// A client's and a server's end over TCP.
inline ChannelPair tcp_pair(const TcpOptions& options = {}) {
    auto listener = TcpListener::bind("127.0.0.1", 0);
    EXPECT_TRUE(listener.ok()) << listener.status();
    auto client = connect_tcp("127.0.0.1", listener->port(), far_deadline(), -1, options);
    EXPECT_TRUE(client.ok()) << client.status();
    auto server = listener->accept(far_deadline(), -1, options);
    EXPECT_TRUE(server.ok()) << server.status();
    return {*std::move(client), *std::move(server)};
}

inline ChannelPair unix_pair(RingKind ring = RingKind::kIoUring) {
    auto pair = loopback_channel_pair(ring);
    EXPECT_TRUE(pair.ok()) << pair.status();
    return *std::move(pair);
}

}  // namespace godwit
