#include "transport/stream/tcp_listener.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cerrno>

#include "engine/base/wait.h"
#include "transport/stream/socket_address.h"

namespace godwit {
namespace {

// A migration's streams connect at once; the kernel lets the rest wait.
constexpr int kBacklog = 128;

absl::StatusOr<UniqueFd> listen_on(const addrinfo& address) {
    UniqueFd socket(
        ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!socket.valid()) return errno_status(errno, "socket");
    const int on = 1;
    if (::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0)
        return errno_status(errno, "setsockopt SO_REUSEADDR");
    if (::bind(socket.get(), address.ai_addr, address.ai_addrlen) != 0) {
        if (errno == EADDRINUSE)
            return absl::AlreadyExistsError("bind: EADDRINUSE (Address already in use)");
        return errno_status(errno, "bind");
    }
    if (::listen(socket.get(), kBacklog) != 0) return errno_status(errno, "listen");
    return socket;
}

absl::StatusOr<uint16_t> port_of(int socket) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size) != 0)
        return errno_status(errno, "getsockname");
    return ntohs(address.ss_family == AF_INET6
                     ? reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port
                     : reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

}  // namespace

absl::StatusOr<TcpListener> TcpListener::bind(const std::string& host, uint16_t port) {
    GODWIT_ASSIGN_OR_RETURN(const AddressList addresses, resolve_address(host, port, true));
    absl::Status failure = absl::UnavailableError("no address");
    for (const addrinfo* address = addresses.get(); address != nullptr;
         address = address->ai_next) {
        absl::StatusOr<UniqueFd> socket = listen_on(*address);
        if (socket.ok()) {
            GODWIT_ASSIGN_OR_RETURN(const uint16_t bound, port_of(socket->get()));
            return TcpListener(*std::move(socket), bound);
        }
        failure = socket.status();
    }
    return annotate(failure, fmt::format("Cannot listen on \"{}\" port {}", host, port));
}

absl::StatusOr<UniqueFd> TcpListener::try_accept() {
    UniqueFd socket(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (socket.valid()) return socket;
    switch (errno) {
        case EMFILE:
        case ENFILE:
        case ENOBUFS:
        case ENOMEM:
        case EPERM:
        case EBADF:
        case EINVAL:
            return errno_status(errno, "Cannot accept a connection: accept4");
        default:  // none is there, or errors of a connection that was lost before we took it
            return UniqueFd();
    }
}

absl::StatusOr<std::unique_ptr<TcpChannel>> TcpListener::accept(
    std::optional<MonotonicTime> deadline, int cancel_fd, const TcpOptions& options) {
    while (true) {
        GODWIT_RETURN_IF_ERROR(annotate(wait_readable(socket_.get(), cancel_fd, deadline),
                                        "Cannot accept a connection"));
        GODWIT_ASSIGN_OR_RETURN(UniqueFd socket, try_accept());
        if (!socket.valid()) continue;
        GODWIT_RETURN_IF_ERROR(apply_tcp_options(socket.get(), options));
        return TcpChannel::create(std::move(socket), options.ring);
    }
}

}  // namespace godwit
