#include "transport/stream/tcp_channel.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/base/wait.h"
#include "transport/stream/socket_address.h"

namespace godwit {
namespace {

// When to give up on the first of the addresses from here on: one that takes no connections must
// leave time for those behind it.
MonotonicTime deadline_of_first(const addrinfo* address, MonotonicTime deadline) {
    int count = 0;
    for (; address != nullptr; address = address->ai_next) ++count;
    if (count == 1) return deadline;
    const MonotonicTime now = Clock::system().now();
    return now + std::max<Duration>(deadline - now, Duration::zero()) / count;
}

// Waits until a connect() that was begun has ended, and says how.
absl::Status finish_connect(int socket, MonotonicTime deadline, int cancel_fd) {
    // An epoll is readable when what it watches is ready: this turns "writable" into "readable".
    const UniqueFd epoll(::epoll_create1(EPOLL_CLOEXEC));
    if (!epoll.valid()) return errno_status(errno, "epoll_create1");
    epoll_event event{.events = EPOLLOUT, .data = {.fd = socket}};
    if (::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, socket, &event) != 0)
        return errno_status(errno, "epoll_ctl");
    GODWIT_RETURN_IF_ERROR(wait_readable(epoll.get(), cancel_fd, deadline));
    int error = 0;
    socklen_t size = sizeof error;
    if (::getsockopt(socket, SOL_SOCKET, SO_ERROR, &error, &size) != 0) error = errno;
    if (error == 0) return absl::OkStatus();
    return absl::UnavailableError(errno_status(error, "connect").message());
}

absl::StatusOr<UniqueFd> connect_to(const addrinfo& address, MonotonicTime deadline, int cancel_fd,
                                    const TcpOptions& options) {
    UniqueFd socket(
        ::socket(address.ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_TCP));
    if (!socket.valid()) return errno_status(errno, "socket");
    GODWIT_RETURN_IF_ERROR(apply_tcp_options(socket.get(), options));
    if (!options.source_address.empty())
        GODWIT_RETURN_IF_ERROR(
            bind_to_source(socket.get(), address.ai_family, options.source_address));
    if (::connect(socket.get(), address.ai_addr, address.ai_addrlen) != 0) {
        if (errno != EINPROGRESS && errno != EINTR)
            return absl::UnavailableError(errno_status(errno, "connect").message());
        GODWIT_RETURN_IF_ERROR(finish_connect(socket.get(), deadline, cancel_fd));
    }
    // io_uring waits by itself only on sockets in blocking mode.
    const int flags = ::fcntl(socket.get(), F_GETFL);
    if (flags < 0 || ::fcntl(socket.get(), F_SETFL, flags & ~O_NONBLOCK) != 0)
        return errno_status(errno, "fcntl");
    return socket;
}

}  // namespace

absl::StatusOr<std::unique_ptr<TcpChannel>> connect_tcp(const std::string& host, uint16_t port,
                                                        MonotonicTime deadline, int cancel_fd,
                                                        const TcpOptions& options) {
    GODWIT_ASSIGN_OR_RETURN(const AddressList addresses, resolve_address(host, port, false));
    absl::Status failure = absl::UnavailableError("no address");
    for (const addrinfo* address = addresses.get(); address != nullptr;
         address = address->ai_next) {
        absl::StatusOr<UniqueFd> socket =
            connect_to(*address, deadline_of_first(address, deadline), cancel_fd, options);
        if (socket.ok()) return TcpChannel::create(*std::move(socket), options.ring);
        failure = socket.status();
        if (absl::IsCancelled(failure)) break;
    }
    return annotate(failure, fmt::format("Cannot connect to {} port {}", host, port));
}

TcpChannel::TcpChannel(UniqueFd socket, std::unique_ptr<Ring> send_ring,
                       std::unique_ptr<Ring> receive_ring)
    : socket_(std::move(socket)),
      send_ring_(std::move(send_ring)),
      receive_ring_(std::move(receive_ring)) {}

absl::StatusOr<std::unique_ptr<TcpChannel>> TcpChannel::create(UniqueFd socket, RingKind ring) {
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<Ring> send_ring, Ring::create(ring));
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<Ring> receive_ring, Ring::create(ring));
    return std::unique_ptr<TcpChannel>(
        new TcpChannel(std::move(socket), std::move(send_ring), std::move(receive_ring)));
}

TcpChannel::~TcpChannel() {
    TcpChannel::shutdown();
    (void)TcpChannel::finish_send();
}

absl::Status TcpChannel::explain(const absl::Status& status, const char* what) const {
    if (status.ok() || absl::IsOutOfRange(status)) return status;
    if (shut_down_) return absl::CancelledError(fmt::format("{}: the channel was shut down", what));
    return annotate(status, what);
}

// Without a copy a frame is read until the peer has it, which must not hold the next one up: so
// that waits for no more than the kernel's having taken this one.
absl::Status TcpChannel::start_send(std::span<const std::byte> bytes) {
    GODWIT_RETURN_IF_ERROR(complete_send());
    const absl::Status status = send_ring_->start_send(socket_.get(), bytes);
    // Gone at once: there is nothing to complete.
    if (!send_ring_->in_flight()) sent_bytes_ += send_ring_->transferred();
    return explain(status, "Cannot send");
}

absl::Status TcpChannel::complete_send() {
    if (!send_ring_->in_flight()) return absl::OkStatus();
    const absl::Status status = send_ring_->complete();
    sent_bytes_ += send_ring_->transferred();
    return explain(status, "Cannot send");
}

absl::Status TcpChannel::finish_send() {
    GODWIT_RETURN_IF_ERROR(complete_send());
    return explain(send_ring_->finish(), "Cannot send");
}

absl::Status TcpChannel::prepare_for_bulk() {
    GODWIT_ASSIGN_OR_RETURN(const bool near, fit_tcp_buffers(socket_.get()));
    // Elsewhere two frames in flight would not fill the link.
    if (near) send_ring_->allow_zero_copy(ZeroCopyGauge::Use::kWhereItPays);
    return absl::OkStatus();
}

bool TcpChannel::sends_zero_copy() const {
    return send_ring_->zero_copy() != nullptr && send_ring_->zero_copy()->pays();
}

std::string TcpChannel::explain_zero_copy() const {
    return send_ring_->zero_copy() == nullptr ? "off: plain sockets"
                                              : send_ring_->zero_copy()->explain();
}

Bytes TcpChannel::unacknowledged_bytes() const {
    int bytes = 0;
    if (::ioctl(socket_.get(), SIOCOUTQ, &bytes) != 0) return 0;
    return static_cast<Bytes>(std::max(bytes, 0));
}

absl::Status TcpChannel::send(std::span<const std::byte> bytes) {
    GODWIT_RETURN_IF_ERROR(start_send(bytes));
    return finish_send();
}

absl::Status TcpChannel::receive(std::span<std::byte> bytes) {
    GODWIT_RETURN_IF_ERROR(
        explain(receive_ring_->start_receive(socket_.get(), bytes), "Cannot receive"));
    const absl::Status status = receive_ring_->finish();
    received_bytes_ += receive_ring_->transferred();
    // After our own shutdown the kernel reports an end like the peer's.
    if (absl::IsOutOfRange(status) && shut_down_)
        return absl::CancelledError("Cannot receive: the channel was shut down");
    return explain(status, "Cannot receive");
}

void TcpChannel::shutdown() {
    shut_down_ = true;
    ::shutdown(socket_.get(), SHUT_RDWR);
}

}  // namespace godwit
