// One run of one engine: the same steps and the same sampler for all.
#pragma once

#include <chrono>
#include <string>

#include "bench/guest/blackout_sampler.h"
#include "bench/lab/engine.h"
#include "bench/lab/statistics.h"

namespace godwit {

struct MeasureOptions {
    std::chrono::microseconds sample_period{100};
    Duration baseline = std::chrono::milliseconds(500);  // watched before the move
    Bytes warm = 0;  // of the host's memory, before the move (warm_memory)
};

// What a sampler saw, cut in two where the guest stood still for the handover (where no source
// changed: for the longest stall). `ticks_per_ms` is the guest's pace before.
//   blackout_ms       of the handover: from the last tick there to the first one here
//   stall_ms, stalls  from the begin of the handover on: what stillnesses exceed one period by, and
//                     how many; so downtime and waiting for pages
//   longest_stall_ms  the longest of these
//   lost_ms           from the begin of the handover on: time lost by the guest's own count of
//                     turns; short stalls and slowness count here as well
//   live_stall_ms, live_longest_ms, live_lost_ms   the same before it
Metrics stall_metrics(const BlackoutReport& report, std::chrono::nanoseconds period,
                      double ticks_per_ms);

// Starts the guest, watches it for a while, moves it and sees it go on. To what the engine says
// this adds stall_metrics() for the time from the request to the last page, and
//   sample_gap_ms     the sampler's own longest gap
//   before_stall_ms_per_s, before_ticks_per_ms   the guest's pace before
// Errors: the engine's; DataLoss when the guest found an error in its memory afterwards;
// DeadlineExceeded when it does not go on.
absl::StatusOr<Metrics> measure(Engine& engine, const MeasureOptions& options, int cancel_fd);

}  // namespace godwit
