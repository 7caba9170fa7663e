// The link to another agent, measured over data streams as a migration has them: TCP, io_uring,
// frames with checksums, and what the limiter lets through. Nothing is written there.
#pragma once

#include <functional>

#include "engine/base/status.h"
#include "engine/base/thread_placement.h"
#include "engine/model/forecast.h"
#include "transport/control/peer.h"
#include "transport/stream/tcp_options.h"

namespace godwit {

struct LinkProbe {
    Interval rate;           // wire bytes per second, of `streams` streams together
    double stream_rate = 0;  // of one stream alone
    uint32_t streams = 1;
    double round_trip_s = 0;         // of a frame and its answer, the shortest
    double cpu_s_per_wire_byte = 0;  // of both hosts
    uint32_t destination_cpus = 1;
};

struct LinkProbeOptions {
    TcpOptions tcp;
    ThreadPlacement placement;
    Bytes bandwidth_bytes_per_s = 0;  // of all streams together; 0: unlimited
    std::function<bool()> cancelled;  // asked every 100 ms
};

// Takes the link for less than a second: bursts of kBurst, first on one stream, then on
// kProbeStreams. Errors: Unavailable (the agent, or a stream), FailedPrecondition (an agent that
// can't do this), Cancelled, DeadlineExceeded.
absl::StatusOr<LinkProbe> probe_link(const HostPort& destination, const LinkProbeOptions& options);

inline constexpr uint16_t kProbeStreams = 4;

}  // namespace godwit
