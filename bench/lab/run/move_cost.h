// What a move costs the host: CPU, and bytes on the link.
#pragma once

#include "bench/lab/run/measure_move.h"

namespace godwit {

// Counters of this moment.
struct CostReading {
    MonotonicTime at;
    CpuSeconds cpu;
    double busy_s = 0;
    double link_bytes = 0;
    double retransmissions = 0;
};

// Errors: those of reading /proc, and options.link_bytes's.
absl::StatusOr<CostReading> read_costs(Engine& engine, const MoveMeasure& options);

// What the processes of the guest use in a second between the two.
CpuSeconds cpu_per_s(const CostReading& begin, const CostReading& end);

// cpu_s and its parts, guest_cpu_s, host_busy_s, link_bytes, retransmissions; `metrics` has
// downtime_ms already, where the engine tells it. `before_per_s`: of the
// guest that was not moved.
void add_cost(const CostReading& begin, const CostReading& end, const CpuSeconds& before_per_s,
              const MoveMeasure& options, Metrics& metrics);

}  // namespace godwit
