#include "transport/control/peer.h"

#include <absl/strings/str_replace.h>
#include <fmt/format.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>

#include <charconv>

namespace godwit {

std::string HostPort::to_string() const {
    return host.find(':') == std::string::npos ? fmt::format("{}:{}", host, port)
                                               : fmt::format("[{}]:{}", host, port);
}

bool HostPort::is_loopback() const {
    return host == "localhost" || host == "::1" || host.rfind("127.", 0) == 0;
}

absl::StatusOr<HostPort> parse_host_port(const std::string& text) {
    const auto bad = [&] {
        return absl::InvalidArgumentError(
            fmt::format("\"{}\" is no address; write it as HOST:PORT", text));
    };
    const size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) return bad();
    HostPort address{.host = text.substr(0, colon)};
    if (address.host.front() == '[') {
        if (address.host.size() < 3 || address.host.back() != ']') return bad();
        address.host = address.host.substr(1, address.host.size() - 2);
    } else if (address.host.find(':') != std::string::npos) {
        return bad();
    }
    const char* begin = text.data() + colon + 1;
    const char* end = text.data() + text.size();
    const auto [stop, error] = std::from_chars(begin, end, address.port);
    if (error != std::errc() || stop != end || begin == end) return bad();
    return address;
}

std::string address_of_caller(const std::string& claimed, const std::string& caller) {
    absl::StatusOr<HostPort> address = parse_host_port(claimed);
    if (!address.ok() || (address->host != "0.0.0.0" && address->host != "::")) return claimed;
    const size_t kind = caller.find(':');
    if (kind == std::string::npos) return claimed;
    const absl::StatusOr<HostPort> from = parse_host_port(
        absl::StrReplaceAll(caller.substr(kind + 1), {{"%5B", "["}, {"%5D", "]"}, {"%25", "%"}}));
    if (!from.ok()) return claimed;
    address->host = from->host;
    return address->to_string();
}

std::shared_ptr<grpc::Channel> open_agent_channel(const HostPort& address, Bytes most_of_reply) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(static_cast<int>(most_of_reply));
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 20000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10000);
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1000);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // agents are reached directly
    return grpc::CreateCustomChannel(address.to_string(), grpc::InsecureChannelCredentials(),
                                     arguments);
}

absl::Status await_agent(grpc::Channel& channel, const HostPort& address, Duration limit) {
    if (channel.WaitForConnected(std::chrono::system_clock::now() + limit)) return absl::OkStatus();
    return absl::UnavailableError(
        fmt::format("Cannot reach the agent at {}: no answer within {:.1f} s; is godwitd running "
                    "there, and does it listen on that address?",
                    address.to_string(), std::chrono::duration<double>(limit).count()));
}

}  // namespace godwit
