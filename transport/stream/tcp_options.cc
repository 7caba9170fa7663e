#include "transport/stream/tcp_options.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

#include "engine/base/unique_fd.h"
#include "transport/stream/socket_address.h"

namespace godwit {
namespace {

// Below this round trip a connection is near: a few megabytes in flight keep any link busy, and
// what waits in larger buffers only falls out of the CPU's caches.
constexpr uint32_t kNearMicroseconds = 300;
constexpr int kNearSendBytes = 512 << 10;
constexpr int kNearReceiveBytes = 2 << 20;
// What the kernel may hold that was not sent yet.
constexpr int kNotSentBytes = 1 << 20;

absl::Status set_option(int socket, int level, int name, int value, const char* what) {
    if (::setsockopt(socket, level, name, &value, sizeof value) == 0) return absl::OkStatus();
    return errno_status(errno, fmt::format("setsockopt {}", what));
}

absl::Status set_timeouts(int socket, std::chrono::milliseconds timeout) {
    // Three probes within the timeout; TCP_USER_TIMEOUT then ends the connection.
    const int seconds = std::max(1, static_cast<int>(timeout.count() / 3000));
    GODWIT_RETURN_IF_ERROR(set_option(socket, SOL_SOCKET, SO_KEEPALIVE, 1, "SO_KEEPALIVE"));
    GODWIT_RETURN_IF_ERROR(set_option(socket, IPPROTO_TCP, TCP_KEEPIDLE, seconds, "TCP_KEEPIDLE"));
    GODWIT_RETURN_IF_ERROR(
        set_option(socket, IPPROTO_TCP, TCP_KEEPINTVL, seconds, "TCP_KEEPINTVL"));
    GODWIT_RETURN_IF_ERROR(set_option(socket, IPPROTO_TCP, TCP_KEEPCNT, 3, "TCP_KEEPCNT"));
    return set_option(socket, IPPROTO_TCP, TCP_USER_TIMEOUT, static_cast<int>(timeout.count()),
                      "TCP_USER_TIMEOUT");
}

int clamp_to_int(Bytes bytes) { return static_cast<int>(std::min<Bytes>(bytes, 1u << 30)); }

// The kernel cuts longer names (TCP_CA_NAME_MAX) and takes what is left.
constexpr size_t kLongestCongestionControl = 15;

std::string line_of(const char* path) {
    std::string line;
    std::ifstream file(path);
    std::getline(file, line);
    return line;
}

absl::Status set_congestion_control(int socket, const std::string& name) {
    const auto size = static_cast<socklen_t>(name.size());
    if (name.size() > kLongestCongestionControl)
        errno = ENOENT;
    else if (::setsockopt(socket, IPPROTO_TCP, TCP_CONGESTION, name.data(), size) == 0)
        return absl::OkStatus();
    if (errno == EPERM)
        return absl::InvalidArgumentError(fmt::format(
            "This agent may not use the congestion control \"{}\"; allowed are: {} (sysctl "
            "net.ipv4.tcp_allowed_congestion_control)",
            name, line_of("/proc/sys/net/ipv4/tcp_allowed_congestion_control")));
    if (errno == ENOENT)
        return absl::InvalidArgumentError(
            fmt::format("This host has no congestion control \"{}\"; there are: {}", name,
                        line_of("/proc/sys/net/ipv4/tcp_available_congestion_control")));
    return errno_status(errno, "setsockopt TCP_CONGESTION");
}

absl::StatusOr<AddressList> parse_numeric(const std::string& address) {
    absl::StatusOr<AddressList> list = resolve_numeric(address);
    if (list.ok()) return list;
    return absl::InvalidArgumentError(fmt::format("\"{}\" is no numeric address", address));
}

}  // namespace

absl::Status set_tcp_timeout(int socket, std::chrono::milliseconds user_timeout) {
    return set_timeouts(socket, user_timeout);
}

absl::Status apply_tcp_options(int socket, const TcpOptions& options) {
    GODWIT_RETURN_IF_ERROR(set_option(socket, IPPROTO_TCP, TCP_NODELAY, 1, "TCP_NODELAY"));
    if (options.user_timeout.count() > 0)
        GODWIT_RETURN_IF_ERROR(set_timeouts(socket, options.user_timeout));
    if (options.send_buffer_bytes > 0)
        GODWIT_RETURN_IF_ERROR(set_option(socket, SOL_SOCKET, SO_SNDBUF,
                                          clamp_to_int(options.send_buffer_bytes), "SO_SNDBUF"));
    if (options.receive_buffer_bytes > 0)
        GODWIT_RETURN_IF_ERROR(set_option(socket, SOL_SOCKET, SO_RCVBUF,
                                          clamp_to_int(options.receive_buffer_bytes), "SO_RCVBUF"));
    if (!options.congestion_control.empty())
        return set_congestion_control(socket, options.congestion_control);
    return absl::OkStatus();
}

absl::StatusOr<bool> fit_tcp_buffers(int socket) {
    tcp_info info{};
    socklen_t size = sizeof info;
    if (::getsockopt(socket, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        return errno_status(errno, "getsockopt TCP_INFO");
    GODWIT_RETURN_IF_ERROR(
        set_option(socket, IPPROTO_TCP, TCP_NOTSENT_LOWAT, kNotSentBytes, "TCP_NOTSENT_LOWAT"));
    // 0: not measured yet.
    if (info.tcpi_rtt == 0 || info.tcpi_rtt > kNearMicroseconds) return false;
    GODWIT_RETURN_IF_ERROR(set_option(socket, SOL_SOCKET, SO_SNDBUF, kNearSendBytes, "SO_SNDBUF"));
    GODWIT_RETURN_IF_ERROR(
        set_option(socket, SOL_SOCKET, SO_RCVBUF, kNearReceiveBytes, "SO_RCVBUF"));
    return true;
}

absl::Status bind_to_source(int socket, int family, const std::string& address) {
    GODWIT_ASSIGN_OR_RETURN(const AddressList list, parse_numeric(address));
    if (list->ai_family != family)
        return absl::InvalidArgumentError(fmt::format(
            "Cannot come from {}: the destination's address is of another kind (IPv4, IPv6)",
            address));
    // The port is chosen when it connects: so there are as many as there are destinations.
    GODWIT_RETURN_IF_ERROR(
        set_option(socket, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1, "IP_BIND_ADDRESS_NO_PORT"));
    if (::bind(socket, list->ai_addr, list->ai_addrlen) == 0) return absl::OkStatus();
    if (errno == EADDRNOTAVAIL)
        return absl::InvalidArgumentError(
            fmt::format("{} is not an address of this host", address));
    return errno_status(errno, fmt::format("Cannot come from {}: bind", address));
}

absl::Status check_congestion_control(const std::string& name) {
    const UniqueFd socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!socket.valid()) return errno_status(errno, "socket");
    return set_congestion_control(socket.get(), name);
}

absl::Status check_source_address(const std::string& address) {
    GODWIT_ASSIGN_OR_RETURN(const AddressList list, parse_numeric(address));
    const UniqueFd socket(::socket(list->ai_family, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP));
    if (!socket.valid()) return errno_status(errno, "socket");
    return bind_to_source(socket.get(), list->ai_family, address);
}

}  // namespace godwit
