// ProbeSink: the other end of a link probe. Takes frames of pages and drops them.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "transport/frame/bodies.h"
#include "transport/stream/tcp_listener.h"

namespace godwit {

// One thread makes and runs it.
class ProbeSink {
  public:
    struct Options {
        std::string probe_id;
        std::string listen_host;
        uint16_t streams = 1;  // at most kMostStreams
        RingKind ring = RingKind::kIoUring;
    };
    static constexpr uint16_t kMostStreams = 16;
    // A probe takes about a second; one that takes longer is ended.
    static constexpr Duration kLimit = std::chrono::seconds(15);

    // Listens. Errors: InvalidArgument for the number of streams; the listener's.
    static absl::StatusOr<ProbeSink> create(Options options);

    [[nodiscard]] const SessionToken& token() const { return token_; }
    [[nodiscard]] uint16_t port() const { return listener_.port(); }

    struct Totals {
        Bytes received_bytes = 0;
        Duration cpu_time{};  // of the threads that received
    };
    // Takes all streams, acknowledges every marker, and returns when the source has closed them.
    // `cancelled` is asked every 100 ms. Errors: Cancelled, DeadlineExceeded after kLimit.
    absl::StatusOr<Totals> run(const std::function<bool()>& cancelled);

  private:
    ProbeSink(Options options, TcpListener listener);

    Options options_;
    SessionToken token_;
    TcpListener listener_;
};

}  // namespace godwit
