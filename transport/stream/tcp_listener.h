// TcpListener: accepts connections of other agents.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "transport/stream/tcp_channel.h"

namespace godwit {

// One thread accepts. Close it by destroying it, after accept() was cancelled.
class TcpListener {
  public:
    // `host`: a numeric address or a name; "" is every address of this host. `port` 0: any free
    // one. Errors: NotFound (the name), AlreadyExists or Unavailable with the kernel's reason.
    static absl::StatusOr<TcpListener> bind(const std::string& host, uint16_t port);

    // Errors: DeadlineExceeded, Cancelled when `cancel_fd` (-1: none) became readable, and what
    // create() of the channel or the kernel says. A peer that has gone again is skipped.
    absl::StatusOr<std::unique_ptr<TcpChannel>> accept(std::optional<MonotonicTime> deadline,
                                                       int cancel_fd = -1,
                                                       const TcpOptions& options = {});

    // Takes a connection if there is one; an invalid fd if there is none. Never blocks.
    absl::StatusOr<UniqueFd> try_accept();

    [[nodiscard]] uint16_t port() const { return port_; }
    [[nodiscard]] int fd() const { return socket_.get(); }

  private:
    TcpListener(UniqueFd socket, uint16_t port) : socket_(std::move(socket)), port_(port) {}

    UniqueFd socket_;
    uint16_t port_ = 0;
};

}  // namespace godwit
