#include "bench/lab/transport_measure.h"

#include "bench/lab/guest_checks.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr uint64_t kIdleTurnsAfterwards = 5;  // an idle guest makes a hundred a second

struct Reading {
    MonotonicTime at;
    CpuSeconds cpu;
    double busy_s = 0;
    double link_bytes = 0;
};

absl::StatusOr<Reading> read_all(Engine& engine, const TransportMeasure& options) {
    Reading reading;
    GODWIT_ASSIGN_OR_RETURN(reading.cpu, engine.cpu());
    GODWIT_ASSIGN_OR_RETURN(reading.busy_s, host_busy_s());
    if (options.link_bytes) {
        GODWIT_ASSIGN_OR_RETURN(reading.link_bytes, options.link_bytes());
    }
    reading.at = Clock::system().now();
    return reading;
}

double seconds(Duration duration) { return to_ms(duration) / 1e3; }

// CPUs that the guest keeps busy by itself.
absl::StatusOr<CpuSeconds> watch_pace(Engine& engine, const TransportMeasure& options) {
    GODWIT_ASSIGN_OR_RETURN(const Reading before, read_all(engine, options));
    const absl::Status waited =
        wait_readable(-1, options.cancel_fd, Clock::system().now() + options.baseline);
    if (absl::IsCancelled(waited)) return waited;
    GODWIT_ASSIGN_OR_RETURN(const Reading after, read_all(engine, options));
    return (1 / seconds(after.at - before.at)) * (after.cpu - before.cpu);
}

absl::StatusOr<uint64_t> tick_of(Engine& engine) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    return mailbox.vcpus[0].tick;
}

}  // namespace

absl::StatusOr<Metrics> measure_transport(Engine& engine, const TransportMeasure& options) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const CpuSeconds pace, watch_pace(engine, options));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    GODWIT_ASSIGN_OR_RETURN(const uint64_t tick, tick_of(engine));
    GODWIT_ASSIGN_OR_RETURN(const auto warm, WarmMemory::hold(options.warm, options.cancel_fd));

    GODWIT_ASSIGN_OR_RETURN(const Reading before, read_all(engine, options));
    GODWIT_ASSIGN_OR_RETURN(Metrics metrics, engine.move());
    GODWIT_ASSIGN_OR_RETURN(const Reading after, read_all(engine, options));

    GODWIT_ASSIGN_OR_RETURN(const Metrics details, engine.details());
    metrics.insert(details.begin(), details.end());
    GODWIT_RETURN_IF_ERROR(goes_on(engine, tick, kIdleTurnsAfterwards, options.cancel_fd));

    CpuSeconds cpu = after.cpu - before.cpu;
    double guest_s = cpu.guest;
    if (!options.tells_guest) {
        const CpuSeconds by_guest = seconds(after.at - before.at) * pace;
        cpu = cpu - by_guest;
        guest_s = by_guest.total();
    }
    metrics["cpu_s"] = cpu.total();
    metrics["cpu_user_s"] = cpu.user;
    metrics["cpu_system_s"] = cpu.system;
    metrics["guest_cpu_s"] = guest_s;
    metrics["host_busy_s"] = after.busy_s - before.busy_s;
    if (options.link_bytes) metrics["link_bytes"] = after.link_bytes - before.link_bytes;
    return metrics;
}

}  // namespace godwit
