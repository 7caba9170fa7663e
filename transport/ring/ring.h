// Ring: an io_uring that carries one socket transfer at a time, to its last byte.
//
// The buffers are not registered with the kernel: a plain send copies out of user memory whether
// they are or not, and each stream would take 4 MiB of RLIMIT_MEMLOCK (8 MiB by default).
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "engine/base/status.h"

struct io_uring;

namespace godwit {

// One thread at a time. A transfer that is in flight ends, with an error, when another thread calls
// shutdown(2) on its socket. The thread that started a transfer must not end before finish(): the
// kernel drops the requests of a thread that has gone.
class Ring {
  public:
    // Errors: PermissionDenied or Unimplemented when io_uring is forbidden here, with what forbids
    // it; ResourceExhausted.
    static absl::StatusOr<Ring> create(unsigned entries);

    // Nothing may be in flight when it is destroyed.
    ~Ring();
    Ring(Ring&&) noexcept;
    Ring& operator=(Ring&&) noexcept;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    // Begins to send (receive) all of `bytes`, which must stay where they are until finish(). The
    // socket must be in blocking mode. A transfer must not be in flight.
    absl::Status start_send(int socket, std::span<const std::byte> bytes);
    absl::Status start_receive(int socket, std::span<std::byte> bytes);

    // Waits until the transfer is complete; ok at once when there is none. Errors: OutOfRange (the
    // peer closed before the first byte of a receive), Unavailable (closed in the middle, reset,
    // …). After an error nothing is in flight and the socket is of no more use.
    absl::Status finish();

    [[nodiscard]] bool in_flight() const { return !left_.empty(); }
    // Bytes of the last transfer that were carried, also after an error.
    [[nodiscard]] size_t transferred() const { return transferred_; }

  private:
    enum class Direction { kSend, kReceive };
    struct Deleter {
        void operator()(io_uring* ring) const;
    };
    using Handle = std::unique_ptr<io_uring, Deleter>;

    explicit Ring(Handle ring);
    absl::Status start(Direction direction, int socket, std::span<std::byte> bytes);
    absl::Status submit();
    absl::StatusOr<size_t> wait();

    Handle ring_;
    Direction direction_ = Direction::kSend;
    int socket_ = -1;
    std::span<std::byte> left_;
    size_t transferred_ = 0;
};

}  // namespace godwit
