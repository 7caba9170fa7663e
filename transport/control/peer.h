// Addresses and gRPC channels of agents.
#pragma once

#include <grpcpp/channel.h>

#include <memory>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct HostPort {
    std::string host;
    uint16_t port = 0;
    [[nodiscard]] std::string to_string() const;
    [[nodiscard]] bool is_loopback() const;
};

// "10.0.0.2:7654", "node3:7654", "[::1]:7654". Errors: InvalidArgument.
absl::StatusOr<HostPort> parse_host_port(const std::string& text);

// A channel with keepalive; it connects on first use and reconnects by itself.
std::shared_ptr<grpc::Channel> open_agent_channel(const HostPort& address);

// Waits until the agent answers. Errors: Unavailable, naming the address.
absl::Status await_agent(grpc::Channel& channel, const HostPort& address, Duration limit);

}  // namespace godwit
