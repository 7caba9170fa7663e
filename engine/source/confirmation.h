// The destination's word that all pages of a round are in place, and how long it may be silent
// before it is given up.
#pragma once

#include <vector>

#include "engine/source/signals.h"
#include "engine/source/streams.h"

namespace godwit {

// Whether a destination shows no more sign of life. A host whose TCP is silent ends the connection
// (TcpOptions::user_timeout), but an agent that hangs on a host that is well does not: its host
// takes what its sockets have room for, and nobody reads it.
//
// Counts looks, not time: who was stopped himself has not been waiting.
class Silence {
  public:
    struct Signs {
        Bytes unacknowledged_bytes = 0;     // of what was sent; by the peer's host
        std::vector<int64_t> acked_rounds;  // by data stream, as SourceSignals has them
        bool operator==(const Signs&) const = default;
    };
    explicit Silence(int most_looks) : most_looks_(most_looks) {}

    // True: nothing has changed for so many looks.
    bool note(const Signs& signs);

  private:
    const int most_looks_;
    int looks_ = 0;
    Signs last_;
};

struct ConfirmationLimits {
    MonotonicTime deadline;
    // Together as long as TcpOptions has for a silent host. What an agent still has to take in then
    // is what its sockets and its frames hold, a few megabytes: a moment's work.
    Duration look = std::chrono::seconds(1);
    int most_looks = 30;
};

// Waits until the destination has confirmed `marker` on all streams in use; everything was sent.
// Errors: SourceSignals::wait's with Mind::kAll; DeadlineExceeded when the destination is silent,
// with the streams that it has not confirmed.
absl::Status await_confirmation(SourceSignals& signals, const SourceStreams& streams,
                                uint32_t marker, const ConfirmationLimits& limits);

}  // namespace godwit
