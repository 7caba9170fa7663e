// One move of a guest as the transport's targets look at it: time, bytes and CPU. Nobody watches
// the guest meanwhile: that would cost CPU.
#pragma once

#include <functional>

#include "bench/lab/engine.h"
#include "bench/lab/statistics.h"

namespace godwit {

struct TransportMeasure {
    Duration baseline = std::chrono::milliseconds(500);  // watched before the move
    // The kernel tells apart what vCPUs run (under KVM). Else the guest is taken to have used as
    // much while it moved as it did in the baseline.
    bool tells_guest = true;
    // Bytes that have gone over the link so far; null where nobody counts them.
    std::function<absl::StatusOr<double>()> link_bytes;
    Bytes warm = 0;  // of the host's memory, before the move (warm_memory)
    int cancel_fd = -1;
};

// Starts the guest, moves it and sees it go on. To what the engine says this adds
//   cpu_s, cpu_user_s, cpu_system_s   of all processes that run and move the guest, from the
//                  request to the last page, without what the guest itself ran
//   guest_cpu_s    that
//   host_busy_s    of all CPUs in the same time, whoever used them
//   link_bytes     on the cable, headers and both directions included
// Errors: the engine's; DataLoss when the guest found an error in its memory; DeadlineExceeded when
// it does not go on; Cancelled.
absl::StatusOr<Metrics> measure_transport(Engine& engine, const TransportMeasure& options);

}  // namespace godwit
