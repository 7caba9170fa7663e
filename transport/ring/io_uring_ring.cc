#include "transport/ring/io_uring_ring.h"

#include <fmt/format.h>
#include <liburing.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/sanitizers.h"
#include "engine/base/unique_fd.h"

// The kernel may map a new ring where an old one was. It orders the two, but liburing maps with
// bare system calls that ThreadSanitizer does not see: so it is told.
#if GODWIT_TSAN
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace godwit {
namespace {

// One transfer at a time.
constexpr unsigned kEntries = 2;

// A frame of a few pages goes (comes) by a plain call in half the time.
constexpr size_t kMostAtOnce = size_t{64} << 10;

// Of linux/io_uring.h since 6.2; liburing 2.3 has it not.
constexpr unsigned kSendZcReportUsage = 1U << 3;
constexpr unsigned kNotificationCopied = 1U << 31;

#if GODWIT_TSAN
char ring_lifetimes = 0;  // only its address is used
#endif

void note_ring_mapped() {
#if GODWIT_TSAN
    __tsan_acquire(&ring_lifetimes);
#endif
}

void note_ring_unmapped() {
#if GODWIT_TSAN
    __tsan_release(&ring_lifetimes);
#endif
}

absl::Status forbidden(int error_number) {
    return annotate(errno_status(error_number, "io_uring_setup"),
                    error_number == ENOSYS
                        ? "Cannot create an io_uring (the kernel is too old or built without it)"
                        : "Cannot create an io_uring (sysctl kernel.io_uring_disabled or a seccomp "
                          "filter, as containers have, forbids it here)");
}

}  // namespace

void IoUringRing::Deleter::operator()(io_uring* ring) const {
    note_ring_unmapped();
    ::io_uring_queue_exit(ring);
    std::default_delete<io_uring>()(ring);
}

IoUringRing::IoUringRing(Handle ring) : ring_(std::move(ring)) {}

absl::StatusOr<std::unique_ptr<IoUringRing>> IoUringRing::create() {
    // Owned by Handle only once it is set up: the deleter tears it down.
    auto memory = std::make_unique<io_uring>();
    const int error = -::io_uring_queue_init(kEntries, memory.get(), 0);
    if (error == EPERM || error == EACCES || error == ENOSYS) return forbidden(error);
    if (error != 0) return errno_status(error, "Cannot create an io_uring: io_uring_setup");
    note_ring_mapped();
    return std::unique_ptr<IoUringRing>(new IoUringRing(Handle(memory.release())));
}

absl::Status IoUringRing::check_operations() const {
    struct Free {
        void operator()(io_uring_probe* probe) const { ::io_uring_free_probe(probe); }
    };
    const std::unique_ptr<io_uring_probe, Free> probe(::io_uring_get_probe_ring(ring_.get()));
    for (const int operation : {IORING_OP_SEND, IORING_OP_RECV})
        if (!probe || ::io_uring_opcode_supported(probe.get(), operation) == 0)
            return absl::UnimplementedError("The kernel's io_uring can't send and receive");
    return absl::OkStatus();
}

absl::Status IoUringRing::probe() {
    GODWIT_ASSIGN_OR_RETURN(const std::unique_ptr<IoUringRing> ring, create());
    GODWIT_RETURN_IF_ERROR(ring->check_operations());
    // A filter may allow io_uring_setup and nothing else.
    std::array<int, 2> sockets{-1, -1};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets.data()) != 0)
        return errno_status(errno, "socketpair");
    const UniqueFd near(sockets[0]);
    const UniqueFd far(sockets[1]);
    std::array<std::byte, 1> byte{};
    // Nothing is there yet, so it goes through the ring.
    GODWIT_RETURN_IF_ERROR(ring->start_receive(far.get(), byte));
    if (::send(near.get(), byte.data(), byte.size(), MSG_NOSIGNAL) != 1)
        return errno_status(errno, "send");
    return ring->finish();
}

// What of a small transfer the socket takes (has) now. Errors are seen by who waits.
size_t IoUringRing::carry_at_once(const Transfer& transfer) {
    const auto bytes = transfer.left;
    if (bytes.size() > kMostAtOnce) return 0;
    const ssize_t carried =
        transfer.direction == Direction::kSend
            ? ::send(transfer.socket, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL)
            : ::recv(transfer.socket, bytes.data(), bytes.size(), MSG_DONTWAIT);
    return static_cast<size_t>(std::max<ssize_t>(carried, 0));
}

absl::StatusOr<size_t> IoUringRing::begin(const Transfer& transfer) {
    const bool sends = transfer.direction == Direction::kSend;
    sent_zero_copy_ = sends && gauge_.wants(transfer.left.size());
    // What the kernel still owes word of comes through the ring.
    const bool owed = own_due_ + earlier_due_ > 0;
    const size_t carried = sent_zero_copy_ || owed ? 0 : carry_at_once(transfer);
    const auto bytes = transfer.left.subspan(carried);
    if (bytes.empty()) return carried;
    io_uring_sqe* sqe = ::io_uring_get_sqe(ring_.get());
    GODWIT_CHECK(sqe != nullptr);  // one transfer at a time: the queue is empty here
    // MSG_WAITALL: the kernel continues a short transfer by itself while this thread does other
    // work.
    if (sent_zero_copy_)
        ::io_uring_prep_send_zc(sqe, transfer.socket, bytes.data(), bytes.size(),
                                MSG_WAITALL | MSG_NOSIGNAL, kSendZcReportUsage);
    else if (sends)
        ::io_uring_prep_send(sqe, transfer.socket, bytes.data(), bytes.size(),
                             MSG_WAITALL | MSG_NOSIGNAL);
    else
        ::io_uring_prep_recv(sqe, transfer.socket, bytes.data(), bytes.size(), MSG_WAITALL);
    ::io_uring_sqe_set_data64(sqe, ++request_);
    earlier_due_ += std::exchange(own_due_, 0);
    result_.reset();
    GODWIT_RETURN_IF_ERROR(submit());
    // A socket that has ended meanwhile fails this send as well.
    release_earlier(transfer.socket).IgnoreError();
    return carried;
}

absl::Status IoUringRing::submit() {
    while (true) {
        const int submitted = ::io_uring_submit(ring_.get());
        if (submitted == 1) return absl::OkStatus();
        if (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY) continue;
        return connection_error(submitted < 0 ? -submitted : EIO, "io_uring_enter");
    }
}

void IoUringRing::note(const io_uring_cqe& completion) {
    const bool own = completion.user_data == request_;
    if ((completion.flags & IORING_CQE_F_NOTIF) != 0) {
        --(own ? own_due_ : earlier_due_);
        gauge_.reported((static_cast<unsigned>(completion.res) & kNotificationCopied) != 0);
        return;
    }
    if ((completion.flags & IORING_CQE_F_MORE) != 0) ++own_due_;
    result_ = completion.res;
    if (!sent_zero_copy_) return;
    for (const int cannot : {EOPNOTSUPP, EINVAL, ENOMEM, ENOBUFS})
        if (completion.res == -cannot) {
            gauge_.failed(cannot);
            result_ = -EAGAIN;  // once more, with a copy
        }
}

absl::StatusOr<ssize_t> IoUringRing::wait(const Transfer&) {
    while (!result_) {
        io_uring_cqe* completion = nullptr;
        const int error = -::io_uring_wait_cqe(ring_.get(), &completion);
        if (error == EINTR || error == EAGAIN) continue;
        if (error != 0) return connection_error(error, "io_uring_enter");
        note(*completion);
        ::io_uring_cqe_seen(ring_.get(), completion);
    }
    return *result_;
}

absl::Status IoUringRing::release(int socket) {
    earlier_due_ += std::exchange(own_due_, 0);
    ++request_;  // what comes now is of an earlier one
    return release_earlier(socket);
}

// Not by waiting for completions alone: bytes that a peer does not take are read until the
// connection is given up, long after a shutdown.
absl::Status IoUringRing::release_earlier(int socket) {
    while (earlier_due_ > 0) {
        io_uring_cqe* completion = nullptr;
        if (::io_uring_peek_cqe(ring_.get(), &completion) == 0) {
            note(*completion);
            ::io_uring_cqe_seen(ring_.get(), completion);
            continue;
        }
        std::array<pollfd, 2> ready{{{.fd = ring_->ring_fd, .events = POLLIN},
                                     {.fd = socket, .events = 0}}};  // its end is always told
        if (::poll(ready.data(), ready.size(), -1) < 0 && errno != EINTR)
            return connection_error(errno, "poll");
        if (ready[1].revents == 0 || ready[0].revents != 0) continue;
        earlier_due_ = 0;
        return absl::UnavailableError("the connection ended before all was acknowledged");
    }
    return absl::OkStatus();
}

}  // namespace godwit
