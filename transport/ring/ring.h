// Ring: carries one socket transfer at a time, to its last byte, while its thread does other work
// where the kernel can do that: the seam under channels. Two kinds: io_uring (io_uring_ring.h) and
// plain socket calls (socket_ring.h), for hosts that are too old for it or forbid it.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include "engine/base/status.h"
#include "transport/ring/zero_copy_gauge.h"

namespace godwit {

enum class RingKind { kIoUring, kSockets };
std::string_view ring_kind_name(RingKind kind);

// One thread at a time. A transfer that is in flight ends, with an error, when another thread calls
// shutdown(2) on its socket. The thread that started a transfer must not end before finish(): the
// kernel drops the requests of a thread that has gone.
class Ring {
  public:
    // Errors: those of the kind's create().
    static absl::StatusOr<std::unique_ptr<Ring>> create(RingKind kind);

    // Nothing may be in flight when it is destroyed.
    virtual ~Ring() = default;
    Ring(const Ring&) = delete;
    Ring& operator=(const Ring&) = delete;

    // Begins to send (receive) all of `bytes`, which must stay where they are, unchanged, until
    // finish(). The socket must be in blocking mode. A transfer must not be in flight. When a
    // start_send() returns, the bytes of the sends before it are free again.
    absl::Status start_send(int socket, std::span<const std::byte> bytes);
    absl::Status start_receive(int socket, std::span<std::byte> bytes);

    // Waits until the transfer is complete: another may begin. Ok at once when there is none.
    // Errors: OutOfRange (the peer closed before the first byte of a receive), Unavailable (closed
    // in the middle, reset, …). After an error nothing is in flight and the socket is of no more
    // use.
    absl::Status complete();
    // The same, and nobody reads the bytes any more. Errors: also Unavailable when the socket was
    // shut down while the kernel still read them; it does so no longer than they are mapped.
    absl::Status finish();

    // Large sends may leave without a copy from now on, as long as the kernel says that they do.
    // It then reads `bytes` until the peer has acknowledged them.
    virtual void allow_zero_copy(ZeroCopyGauge::Use) {}
    [[nodiscard]] virtual const ZeroCopyGauge* zero_copy() const { return nullptr; }

    [[nodiscard]] bool in_flight() const { return !transfer_.left.empty(); }
    // Bytes of the last transfer that were carried, also after an error.
    [[nodiscard]] size_t transferred() const { return transferred_; }

  protected:
    enum class Direction { kSend, kReceive };
    struct Transfer {
        Direction direction = Direction::kSend;
        int socket = -1;
        std::span<std::byte> left;  // of a send only read: one member holds both directions
    };

    Ring() = default;
    // Begins to carry what is left; returns how much of it was carried at once.
    virtual absl::StatusOr<size_t> begin(const Transfer& transfer) = 0;
    // Waits for more of it: what send(2) or recv(2) would return, or minus an errno.
    virtual absl::StatusOr<ssize_t> wait(const Transfer& transfer) = 0;
    // Waits until the kernel reads no bytes of earlier sends on that socket any more.
    virtual absl::Status release(int) { return absl::OkStatus(); }

  private:
    absl::Status start(const Transfer& transfer);
    absl::Status go_on(absl::StatusOr<size_t> carried);
    [[nodiscard]] absl::StatusOr<size_t> check(ssize_t result) const;

    Transfer transfer_;
    size_t transferred_ = 0;
};

// Errors of a socket mean one thing to the callers: the connection is gone.
absl::Status connection_error(int error_number, const char* call);

}  // namespace godwit
