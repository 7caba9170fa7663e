#include "transport/ring/ring.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "engine/base/check.h"

// The kernel may map a new ring where an old one was. It orders the two, but liburing maps with
// bare system calls that ThreadSanitizer does not see: so it is told.
#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace godwit {
namespace {

#ifdef __SANITIZE_THREAD__
char ring_lifetimes = 0;  // only its address is used
#endif

void note_ring_mapped() {
#ifdef __SANITIZE_THREAD__
    __tsan_acquire(&ring_lifetimes);
#endif
}

void note_ring_unmapped() {
#ifdef __SANITIZE_THREAD__
    __tsan_release(&ring_lifetimes);
#endif
}

absl::Status forbidden(int error_number) {
    return annotate(
        errno_status(error_number, "io_uring_setup"),
        "Cannot create an io_uring (sysctl kernel.io_uring_disabled or a seccomp filter, "
        "as containers have, forbids it here)");
}

// Errors of a socket mean one thing to the callers: the connection is gone.
absl::Status connection_error(int error_number, const char* call) {
    return absl::UnavailableError(errno_status(error_number, call).message());
}

}  // namespace

void Ring::Deleter::operator()(io_uring* ring) const {
    note_ring_unmapped();
    ::io_uring_queue_exit(ring);
    std::default_delete<io_uring>()(ring);
}

Ring::Ring(Handle ring) : ring_(std::move(ring)) {}
Ring::Ring(Ring&& other) noexcept = default;
Ring& Ring::operator=(Ring&& other) noexcept = default;
Ring::~Ring() = default;

absl::StatusOr<Ring> Ring::create(unsigned entries) {
    // Owned by Handle only once it is set up: the deleter tears it down.
    auto memory = std::make_unique<io_uring>();
    const int error = -::io_uring_queue_init(entries, memory.get(), 0);
    if (error == EPERM || error == EACCES || error == ENOSYS) return forbidden(error);
    if (error != 0) return errno_status(error, "Cannot create an io_uring: io_uring_setup");
    note_ring_mapped();
    return Ring(Handle(memory.release()));
}

absl::Status Ring::start_send(int socket, std::span<const std::byte> bytes) {
    // Only read: one member holds both directions.
    return start(Direction::kSend, socket, {const_cast<std::byte*>(bytes.data()), bytes.size()});
}

absl::Status Ring::start_receive(int socket, std::span<std::byte> bytes) {
    return start(Direction::kReceive, socket, bytes);
}

absl::Status Ring::start(Direction direction, int socket, std::span<std::byte> bytes) {
    GODWIT_CHECK(!in_flight());
    direction_ = direction;
    socket_ = socket;
    left_ = bytes;
    transferred_ = 0;
    if (bytes.empty()) return absl::OkStatus();
    return submit();
}

absl::Status Ring::submit() {
    io_uring_sqe* sqe = ::io_uring_get_sqe(ring_.get());
    GODWIT_CHECK(sqe != nullptr);  // one transfer at a time: the queue is empty here
    // MSG_WAITALL: the kernel continues a short transfer by itself while this thread does other
    // work.
    if (direction_ == Direction::kSend)
        ::io_uring_prep_send(sqe, socket_, left_.data(), left_.size(), MSG_WAITALL | MSG_NOSIGNAL);
    else
        ::io_uring_prep_recv(sqe, socket_, left_.data(), left_.size(), MSG_WAITALL);
    while (true) {
        const int submitted = ::io_uring_submit(ring_.get());
        if (submitted == 1) return absl::OkStatus();
        if (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY) continue;
        left_ = {};
        return connection_error(submitted < 0 ? -submitted : EIO, "io_uring_enter");
    }
}

absl::StatusOr<size_t> Ring::wait() {
    io_uring_cqe* cqe = nullptr;
    int error = 0;
    do error = -::io_uring_wait_cqe(ring_.get(), &cqe);
    while (error == EINTR || error == EAGAIN);
    if (error != 0) return connection_error(error, "io_uring_enter");
    const int result = cqe->res;
    ::io_uring_cqe_seen(ring_.get(), cqe);
    if (result == -EINTR || result == -EAGAIN) return size_t{0};
    if (result < 0)
        return connection_error(-result, direction_ == Direction::kSend ? "send" : "receive");
    if (result > 0) return static_cast<size_t>(result);
    if (direction_ == Direction::kReceive && transferred_ == 0)
        return absl::OutOfRangeError("the peer closed the connection");
    return absl::UnavailableError(fmt::format("the peer closed the connection after {} of {} bytes",
                                              transferred_, transferred_ + left_.size()));
}

absl::Status Ring::finish() {
    while (in_flight()) {
        const absl::StatusOr<size_t> count = wait();
        if (!count.ok()) {
            left_ = {};
            return count.status();
        }
        transferred_ += *count;
        left_ = left_.subspan(*count);
        if (in_flight()) GODWIT_RETURN_IF_ERROR(submit());
    }
    return absl::OkStatus();
}

}  // namespace godwit
