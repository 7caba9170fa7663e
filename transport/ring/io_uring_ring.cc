#include "transport/ring/io_uring_ring.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <utility>

#include "engine/base/check.h"
#include "engine/base/unique_fd.h"

// The kernel may map a new ring where an old one was. It orders the two, but liburing maps with
// bare system calls that ThreadSanitizer does not see: so it is told.
#ifdef __SANITIZE_THREAD__
extern "C" void __tsan_acquire(void* address);
extern "C" void __tsan_release(void* address);
#endif

namespace godwit {
namespace {

// One transfer at a time.
constexpr unsigned kEntries = 2;

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
    GODWIT_RETURN_IF_ERROR(ring->start_send(near.get(), byte));
    GODWIT_RETURN_IF_ERROR(ring->finish());
    GODWIT_RETURN_IF_ERROR(ring->start_receive(far.get(), byte));
    return ring->finish();
}

absl::StatusOr<size_t> IoUringRing::begin(const Transfer& transfer) {
    io_uring_sqe* sqe = ::io_uring_get_sqe(ring_.get());
    GODWIT_CHECK(sqe != nullptr);  // one transfer at a time: the queue is empty here
    // MSG_WAITALL: the kernel continues a short transfer by itself while this thread does other
    // work.
    if (transfer.direction == Direction::kSend)
        ::io_uring_prep_send(sqe, transfer.socket, transfer.left.data(), transfer.left.size(),
                             MSG_WAITALL | MSG_NOSIGNAL);
    else
        ::io_uring_prep_recv(sqe, transfer.socket, transfer.left.data(), transfer.left.size(),
                             MSG_WAITALL);
    while (true) {
        const int submitted = ::io_uring_submit(ring_.get());
        if (submitted == 1) return size_t{0};
        if (submitted == -EINTR || submitted == -EAGAIN || submitted == -EBUSY) continue;
        return connection_error(submitted < 0 ? -submitted : EIO, "io_uring_enter");
    }
}

absl::StatusOr<ssize_t> IoUringRing::wait(const Transfer&) {
    io_uring_cqe* cqe = nullptr;
    int error = 0;
    do error = -::io_uring_wait_cqe(ring_.get(), &cqe);
    while (error == EINTR || error == EAGAIN);
    if (error != 0) return connection_error(error, "io_uring_enter");
    const int result = cqe->res;
    ::io_uring_cqe_seen(ring_.get(), cqe);
    return result;
}

}  // namespace godwit
