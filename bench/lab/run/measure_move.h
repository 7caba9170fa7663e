// One move of a guest, measured alike for every engine: time, pauses, pace, bytes, CPU, memory.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <nlohmann/json.hpp>

#include "bench/guest/blackout_sampler.h"
#include "bench/lab/engine.h"
#include "bench/lab/statistics.h"
#include "engine/base/cpu_latency.h"

namespace godwit {

struct MoveMeasure {
    // How often the guest's ticks are read. Below a millisecond by a SCHED_FIFO thread, which costs
    // CPU; a coarse period costs nothing and blurs what is told about pauses by as much.
    std::chrono::microseconds watch{100};
    Duration before = std::chrono::milliseconds(500);  // watched before the move
    Duration after{};                                  // and after it
    // The kernel tells apart what vCPUs run (under KVM). Else the guest is taken to have used as
    // much while it moved as it did before.
    bool tells_guest = true;
    // It makes some hundred turns a second: nothing is known of a shorter stillness.
    bool idle = false;
    // Null where nobody counts.
    std::function<absl::StatusOr<double>()> link_bytes, retransmissions;
    double bytes_per_s = 0;  // what link and limit let through; 0: unlimited
    Bytes working_set = 0;
    CpuLatencyLimit cpu_latency = std::nullopt;  // of the host, while the engine moves it
    Bytes warm = 0;  // of the host's memory, before the move (warm_memory)
    int cancel_fd = -1;
};

struct MovedOnce {
    Metrics metrics;
    // "pace": [ms, ticks per ms]…; "stalls": [ms, length ms]…, the longest ones; "blackout": [ms,
    // ms]; and what the engine tells ("rounds", "latency_us"). Times are from the request on.
    nlohmann::json series = nlohmann::json::object();
};

// Starts the guest, watches it, moves it, sees it go on and watches it again. bench/lab/README.md
// has every metric. Errors: the engine's; DataLoss when the guest found an error in its memory;
// DeadlineExceeded when it does not go on; Cancelled.
absl::StatusOr<MovedOnce> measure_move(Engine& engine, const MoveMeasure& options);

// The same of several at once. Of the first guest only its blackout is told: it is somewhere
// between its own move and those of the others all the while.
absl::StatusOr<MovedOnce> measure_fleet(Engine& engine, const MoveMeasure& options);

// A guest that stays, watched for options.before: its pace, and what it stalled by itself: what is
// `live_…` of one that moves.
absl::StatusOr<MovedOnce> measure_stay(Engine& engine, const MoveMeasure& options);

class ServiceNet;

// The same of a guest with a service that a client uses meanwhile; the series "pace" is what it is
// answered. Errors: as above; DataLoss when what was answered is not there afterwards, or the
// guest's disk writer read what it did not write.
absl::StatusOr<MovedOnce> measure_service(Engine& engine, const MoveMeasure& options,
                                          const ServiceNet& net);

// [ms from `origin`, ticks per ms since the point before]…, at most `limit` points.
nlohmann::json pace_series(const std::vector<TracePoint>& trace, MonotonicTime origin,
                           size_t limit);

// after_0_10_ticks_per_ms, after_10_30_…, after_30_90_…: the guest's pace in these seconds after
// `moved`. A window that the trace does not cover, but for a moment, is left out.
Metrics pace_after(const std::vector<TracePoint>& trace, MonotonicTime moved);

// Pages that the guest has written so far.
struct WriteCount {
    MonotonicTime at;
    uint64_t writes = 0;
};
// before_writes_per_s, during_writes_per_s and write_slowdown_percent, from counts at begin and end
// of either; `still`: the part of the second in which the guest was not to run. Nothing of one that
// writes nothing.
Metrics write_metrics(const std::array<WriteCount, 2>& before,
                      const std::array<WriteCount, 2>& during, Duration still);

// What is told of an idle guest's pauses, which are seen by turns as rare as looks at them: its
// blackout, where that is well above either (`turn_ms` apart, `watch_ms` apart); no stalls, no
// pace.
void keep_of_idle(double watch_ms, double turn_ms, Metrics& metrics);

// What was seen from `begin` to `end`; to the first turn at the destination where that came later.
BlackoutReport seen_between(BlackoutReport report, MonotonicTime begin, MonotonicTime end);

}  // namespace godwit
