// StreamAcceptor: takes the streams of one migration from a listener, and nobody else's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "transport/stream/handshake.h"
#include "transport/stream/tcp_channel.h"
#include "transport/stream/tcp_listener.h"

namespace godwit {

struct AcceptedStream {
    std::unique_ptr<TcpChannel> channel;
    FrameRoute route;  // for the FrameReader and FrameWriter of this channel
};

// A connection counts only after its whole greeting has arrived and was right, and each stream
// index is given once. So a stranger who is silent, slow or wrong delays nobody: its connection
// waits beside the others and is closed when kMaxWaiting newer ones wait too.
//
// One thread. The listener must outlive it.
class StreamAcceptor {
  public:
    static constexpr size_t kMaxWaiting = 64;

    // Errors: InvalidArgument for a stream_count of 0 or more than kMaxStreams; epoll's.
    static absl::StatusOr<StreamAcceptor> create(TcpListener& listener,
                                                 const HelloExpectation& expected,
                                                 const TcpOptions& options = {});

    // The next stream of the migration that greets. Errors: DeadlineExceeded, with how many came
    // and who else did; Cancelled when `cancel_fd` (-1: none) became readable; FailedPrecondition
    // when all streams are there already; ResourceExhausted and other errors of this host's kernel.
    absl::StatusOr<AcceptedStream> accept(MonotonicTime deadline, int cancel_fd = -1);

    // Connections that were dropped because they did not belong here, and why the last one was.
    [[nodiscard]] uint64_t refused_count() const { return refused_count_; }
    [[nodiscard]] const absl::Status& last_refusal() const { return last_refusal_; }

  private:
    StreamAcceptor(TcpListener& listener, const HelloExpectation& expected,
                   const TcpOptions& options, UniqueFd epoll);
    absl::Status take_connections();
    absl::Status watch(int fd);
    // The socket of `waiting_` whose greeting is there (or that ended), an invalid one: none.
    absl::StatusOr<UniqueFd> next_ready();
    // A null channel: the connection was refused.
    absl::StatusOr<AcceptedStream> greet(UniqueFd socket);
    AcceptedStream refuse(absl::Status reason);
    [[nodiscard]] absl::Status late() const;

    TcpListener* listener_;
    HelloExpectation expected_;
    TcpOptions options_;
    UniqueFd epoll_;                 // the listener and all of waiting_
    std::vector<UniqueFd> waiting_;  // oldest first
    std::vector<bool> taken_;        // by stream index
    uint64_t refused_count_ = 0;
    absl::Status last_refusal_;
};

}  // namespace godwit
