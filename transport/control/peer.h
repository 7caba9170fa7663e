// Addresses and gRPC channels of agents.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

struct HostPort {
    std::string host;
    uint16_t port = 0;
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] bool is_loopback() const;
};

// "10.0.0.2:7654", "node3:7654", "[::1]:7654". Errors: InvalidArgument.
absl::StatusOr<HostPort> parse_host_port(const std::string& text);

// How `claimed`, what an agent that called says that its HOST:PORT is, is reached from here: where
// it listens on all addresses, at the one that it called from. `caller` is gRPC's name of it
// ("ipv4:10.0.0.2:40000"). What can't be read stays as it is.
std::string address_of_caller(const std::string& claimed, const std::string& caller);

// gRPC's own limit of a reply.
inline constexpr Bytes kUsualReply = Bytes{4} << 20;
// A channel with keepalive; it connects on first use and reconnects by itself.
std::shared_ptr<grpc::Channel> open_agent_channel(const HostPort& address,
                                                  Bytes most_of_reply = kUsualReply);

// Waits until the agent answers. Errors: Unavailable, naming the address.
absl::Status await_agent(grpc::Channel& channel, const HostPort& address, Duration limit);

}  // namespace godwit
