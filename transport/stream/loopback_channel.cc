#include "transport/stream/loopback_channel.h"

#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace godwit {

absl::StatusOr<std::pair<std::unique_ptr<TcpChannel>, std::unique_ptr<TcpChannel>>>
loopback_channel_pair(RingKind ring) {
    std::array<int, 2> sockets{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0)
        return errno_status(errno, "socketpair");
    UniqueFd first(sockets[0]);
    UniqueFd second(sockets[1]);
    GODWIT_ASSIGN_OR_RETURN(auto first_end, TcpChannel::create(std::move(first), ring));
    GODWIT_ASSIGN_OR_RETURN(auto second_end, TcpChannel::create(std::move(second), ring));
    return std::make_pair(std::move(first_end), std::move(second_end));
}

}  // namespace godwit
