#include "transport/ring/ring.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "engine/base/check.h"
#include "transport/ring/io_uring_ring.h"
#include "transport/ring/socket_ring.h"

namespace godwit {

std::string_view ring_kind_name(RingKind kind) {
    return kind == RingKind::kIoUring ? "io_uring" : "plain sockets";
}

absl::Status connection_error(int error_number, const char* call) {
    return absl::UnavailableError(errno_status(error_number, call).message());
}

absl::StatusOr<std::unique_ptr<Ring>> Ring::create(RingKind kind) {
    if (kind == RingKind::kSockets) return std::make_unique<SocketRing>();
    return IoUringRing::create();
}

absl::Status Ring::start_send(int socket, std::span<const std::byte> bytes) {
    return start({.direction = Direction::kSend,
                  .socket = socket,
                  .left = {const_cast<std::byte*>(bytes.data()), bytes.size()}});
}

absl::Status Ring::start_receive(int socket, std::span<std::byte> bytes) {
    return start({.direction = Direction::kReceive, .socket = socket, .left = bytes});
}

absl::Status Ring::start(const Transfer& transfer) {
    GODWIT_CHECK(!in_flight());
    transfer_ = transfer;
    transferred_ = 0;
    if (!in_flight()) return absl::OkStatus();
    return go_on(begin(transfer_));
}

absl::Status Ring::go_on(absl::StatusOr<size_t> carried) {
    if (!carried.ok()) {
        transfer_.left = {};
        return std::move(carried).status();
    }
    transferred_ += *carried;
    transfer_.left = transfer_.left.subspan(*carried);
    return absl::OkStatus();
}

absl::StatusOr<size_t> Ring::check(ssize_t result) const {
    const bool sends = transfer_.direction == Direction::kSend;
    if (result == -EINTR || result == -EAGAIN) return size_t{0};
    if (result == -EPIPE)
        // What ended it was told to an earlier send, which had carried some bytes and said these.
        return absl::UnavailableError(
            "send: EPIPE (Broken pipe): the peer has closed the connection, or took nothing for "
            "too long");
    if (result < 0) return connection_error(static_cast<int>(-result), sends ? "send" : "receive");
    if (result > 0) return static_cast<size_t>(result);
    if (!sends && transferred_ == 0) return absl::OutOfRangeError("the peer closed the connection");
    return absl::UnavailableError(fmt::format("the peer closed the connection after {} of {} bytes",
                                              transferred_, transferred_ + transfer_.left.size()));
}

absl::Status Ring::complete() {
    while (in_flight()) {
        const absl::StatusOr<ssize_t> result = wait(transfer_);
        GODWIT_RETURN_IF_ERROR(go_on(result.ok() ? check(*result) : result.status()));
        if (in_flight()) GODWIT_RETURN_IF_ERROR(go_on(begin(transfer_)));
    }
    return absl::OkStatus();
}

absl::Status Ring::finish() {
    GODWIT_RETURN_IF_ERROR(complete());
    return release(transfer_.socket);
}

}  // namespace godwit
