// How busy the host is with other things than the benchmark, and waiting until it is not.
#pragma once

#include <cstdint>
#include <string>

#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct CpuTimes {
    uint64_t idle = 0;   // ticks; waiting for disks included
    uint64_t total = 0;  // stolen by the host's own host included
};

// The first line of /proc/stat. Error: Internal.
absl::StatusOr<CpuTimes> parse_cpu_times(const std::string& stat);

// From /proc/stat. Error: Internal.
absl::StatusOr<CpuTimes> cpu_times_now();

// Idle share of all CPUs between two readings, in percent.
double idle_percent(const CpuTimes& begin, const CpuTimes& end);

// The one-minute load average; -1 when it is unknown.
double load_now();

// Waits until all CPUs together were idle for `percent` of half a second, at most `patience`; 0:
// does not wait, only looks. Returns what it saw last. Errors: Cancelled.
absl::StatusOr<double> wait_until_idle(double percent, Duration patience, int cancel_fd);

}  // namespace godwit
