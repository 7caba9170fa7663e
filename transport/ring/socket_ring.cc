#include "transport/ring/socket_ring.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

namespace godwit {

absl::StatusOr<size_t> SocketRing::begin(const Transfer& transfer) {
    if (transfer.direction == Direction::kReceive) return size_t{0};
    const ssize_t sent = ::send(transfer.socket, transfer.left.data(), transfer.left.size(),
                                MSG_DONTWAIT | MSG_NOSIGNAL);
    // An error is seen by who waits.
    return static_cast<size_t>(std::max<ssize_t>(sent, 0));
}

absl::StatusOr<ssize_t> SocketRing::wait(const Transfer& transfer) {
    const bool sends = transfer.direction == Direction::kSend;
    pollfd ready{.fd = transfer.socket, .events = static_cast<int16_t>(sends ? POLLOUT : POLLIN)};
    if (::poll(&ready, 1, -1) < 0) return -errno;
    const ssize_t count =
        sends ? ::send(transfer.socket, transfer.left.data(), transfer.left.size(),
                       MSG_DONTWAIT | MSG_NOSIGNAL)
              : ::recv(transfer.socket, transfer.left.data(), transfer.left.size(), MSG_DONTWAIT);
    return count < 0 ? -errno : count;
}

}  // namespace godwit
