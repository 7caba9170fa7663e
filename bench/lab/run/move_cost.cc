#include "bench/lab/run/move_cost.h"

#include <algorithm>

namespace godwit {
namespace {

double in_seconds(Duration duration) { return to_ms(duration) / 1e3; }

}  // namespace

absl::StatusOr<CostReading> read_costs(Engine& engine, const MoveMeasure& options) {
    CostReading reading;
    GODWIT_ASSIGN_OR_RETURN(reading.cpu, engine.cpu());
    GODWIT_ASSIGN_OR_RETURN(reading.busy_s, host_busy_s());
    if (options.link_bytes) {
        GODWIT_ASSIGN_OR_RETURN(reading.link_bytes, options.link_bytes());
    }
    if (options.retransmissions) {
        GODWIT_ASSIGN_OR_RETURN(reading.retransmissions, options.retransmissions());
    }
    reading.at = Clock::system().now();
    return reading;
}

CpuSeconds cpu_per_s(const CostReading& begin, const CostReading& end) {
    return (1 / in_seconds(end.at - begin.at)) * (end.cpu - begin.cpu);
}

void add_cost(const CostReading& begin, const CostReading& end, const CpuSeconds& before_per_s,
              const MoveMeasure& options, Metrics& metrics) {
    CpuSeconds cpu = end.cpu - begin.cpu;
    double guest_s = cpu.guest;
    if (!options.tells_guest) {
        // It used nothing while it was paused.
        const auto paused = metrics.find("downtime_ms");
        const double paused_s = paused == metrics.end() ? 0 : paused->second / 1e3;
        const CpuSeconds by_guest =
            std::max(0.0, in_seconds(end.at - begin.at) - paused_s) * before_per_s;
        cpu = cpu - by_guest;
        guest_s = by_guest.total();
    }
    metrics["cpu_s"] = cpu.total();
    metrics["cpu_user_s"] = cpu.user;
    metrics["cpu_system_s"] = cpu.system;
    metrics["guest_cpu_s"] = guest_s;
    metrics["host_busy_s"] = end.busy_s - begin.busy_s;
    if (options.link_bytes) metrics["link_bytes"] = end.link_bytes - begin.link_bytes;
    if (options.retransmissions)
        metrics["retransmissions"] = end.retransmissions - begin.retransmissions;
}

}  // namespace godwit
