// TcpChannel: a Channel over a connected stream socket, driven by a ring per direction.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"
#include "transport/ring/ring.h"
#include "transport/stream/channel.h"
#include "transport/stream/tcp_options.h"

namespace godwit {

class TcpChannel : public Channel {
  public:
    // Takes a connected stream socket in blocking mode (TCP or unix). Errors: Ring::create's.
    static absl::StatusOr<std::unique_ptr<TcpChannel>> create(UniqueFd socket, RingKind ring);
    // Shuts down, waits for what is in flight, closes. What was sent before still goes out, unless
    // received bytes were left unread: then TCP resets the connection.
    ~TcpChannel() override;
    TcpChannel(const TcpChannel&) = delete;
    TcpChannel& operator=(const TcpChannel&) = delete;

    absl::Status send(std::span<const std::byte> bytes) override;
    absl::Status receive(std::span<std::byte> bytes) override;
    absl::Status start_send(std::span<const std::byte> bytes) override;
    absl::Status finish_send() override;
    void shutdown() override;

    // The channel will carry bulk data: fit_tcp_buffers(), and where the round trip is short,
    // large sends without a copy if that pays. After its handshake.
    absl::Status prepare_for_bulk();
    // Whether large sends leave without a copy, and why not. While nobody sends.
    [[nodiscard]] bool sends_zero_copy() const;
    [[nodiscard]] std::string explain_zero_copy() const;

    // Bytes that the kernel took (gave). Any thread.
    [[nodiscard]] Bytes sent_bytes() const { return sent_bytes_; }
    [[nodiscard]] Bytes received_bytes() const { return received_bytes_; }
    // Of those sent, what the peer's kernel has not acknowledged yet. Any thread.
    [[nodiscard]] Bytes unacknowledged_bytes() const;
    [[nodiscard]] int fd() const { return socket_.get(); }

  private:
    TcpChannel(UniqueFd socket, std::unique_ptr<Ring> send_ring,
               std::unique_ptr<Ring> receive_ring);
    absl::Status complete_send();
    [[nodiscard]] absl::Status explain(const absl::Status& status, const char* what) const;

    UniqueFd socket_;
    const std::unique_ptr<Ring> send_ring_;
    const std::unique_ptr<Ring> receive_ring_;
    std::atomic<bool> shut_down_{false};
    std::atomic<Bytes> sent_bytes_{0};
    std::atomic<Bytes> received_bytes_{0};
};

// Connects to `host` (a numeric address or a name) and sets TCP_NODELAY and the options. Tries
// every address of a name in turn, each for its part of the time; looking the name up is not
// bounded by the deadline, so pass addresses where that matters. Errors, of the last address:
// DeadlineExceeded, Cancelled when `cancel_fd` (-1: none) became readable, NotFound (the name),
// Unavailable with the kernel's reason.
absl::StatusOr<std::unique_ptr<TcpChannel>> connect_tcp(const std::string& host, uint16_t port,
                                                        MonotonicTime deadline, int cancel_fd = -1,
                                                        const TcpOptions& options = {});

}  // namespace godwit
