#include "bench/lab/run/measure_move.h"

#include <algorithm>
#include <optional>

#include "bench/lab/guest_checks.h"
#include "bench/lab/measure.h"
#include "bench/lab/run/move_cost.h"
#include "bench/lab/run/process_watch.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr uint64_t kTurnsAfterwards = 5;  // an idle guest makes a hundred a second
constexpr std::chrono::milliseconds kTracePeriod{10};
constexpr size_t kMaxPacePoints = 240;
constexpr size_t kMaxStallsTold = 100;
// Of the longest stall within the baseline: below, a guest's own way of running.
constexpr double kPercent = 100;

struct Before {
    BlackoutReport report;
    CpuSeconds cpu_per_s;
    double ticks_per_ms = 0;
    std::array<WriteCount, 2> writes;  // at its begin and end
};

double seconds(Duration duration) { return to_ms(duration) / 1e3; }

absl::StatusOr<BlackoutSampler> watch(Engine& engine, const MoveMeasure& options) {
    return BlackoutSampler::start({.more = engine.ticks(),
                                   .period = options.watch,
                                   .realtime = options.watch < std::chrono::milliseconds(1),
                                   .trace_period = kTracePeriod});
}

absl::StatusOr<BlackoutReport> watch_for(Engine& engine, const MoveMeasure& options,
                                         Duration duration) {
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, watch(engine, options));
    const absl::Status waited =
        wait_readable(-1, options.cancel_fd, Clock::system().now() + duration);
    if (absl::IsCancelled(waited)) return waited;
    return sampler.stop();
}

double pace_of(const BlackoutReport& report) {
    const double elapsed_ms = to_ms(report.last_time - report.first_time);
    return elapsed_ms > 0 ? static_cast<double>(report.last_tick - report.first_tick) / elapsed_ms
                          : 0;
}

absl::StatusOr<WriteCount> count_writes(Engine& engine) {
    GODWIT_ASSIGN_OR_RETURN(const MailboxReader reader, engine.mailbox());
    GODWIT_ASSIGN_OR_RETURN(const Mailbox mailbox, reader.read());
    WriteCount count{.at = Clock::system().now()};
    for (const MailboxVcpu& vcpu : mailbox.vcpus) count.writes += vcpu.writes;
    return count;
}

absl::StatusOr<Before> watch_before(Engine& engine, const MoveMeasure& options) {
    GODWIT_ASSIGN_OR_RETURN(const CostReading begin, read_costs(engine, options));
    GODWIT_ASSIGN_OR_RETURN(const WriteCount first, count_writes(engine));
    GODWIT_ASSIGN_OR_RETURN(BlackoutReport report, watch_for(engine, options, options.before));
    GODWIT_ASSIGN_OR_RETURN(const WriteCount last, count_writes(engine));
    GODWIT_ASSIGN_OR_RETURN(const CostReading end, read_costs(engine, options));
    if (report.new_ticks < 2)
        return absl::FailedPreconditionError("the guest shows no ticks before it is moved");
    const double ticks_per_ms = pace_of(report);
    return Before{.report = std::move(report),
                  .cpu_per_s = cpu_per_s(begin, end),
                  .ticks_per_ms = ticks_per_ms,
                  .writes = {first, last}};
}

Metrics before_metrics(const Before& before, const MoveMeasure& options) {
    const auto excess_ms = [&](Duration length) {
        return std::max(0.0, to_ms(length - options.watch));
    };
    double total_ms = 0;
    for (const Stillness& stall : before.report.stalls) total_ms += excess_ms(stall.length());
    return {
        {"before_ticks_per_ms", before.ticks_per_ms},
        {"before_longest_ms", excess_ms(before.report.longest.length())},
        {"before_stall_ms_per_s",
         total_ms / std::max(1e-3, seconds(before.report.last_time - before.report.first_time))}};
}

void add_times_touched(const MoveMeasure& options, Metrics& metrics) {
    if (options.bytes_per_s > 0 && options.working_set > 0)
        metrics["times_touched"] = metrics["total_ms"] / 1e3 * options.bytes_per_s /
                                   static_cast<double>(options.working_set);
}

void add_pauses(const BlackoutReport& during, const Before& before, const MoveMeasure& options,
                Metrics& metrics) {
    metrics.merge(stall_metrics(during, options.watch, before.ticks_per_ms));
    metrics["sample_gap_ms"] = to_ms(Duration(during.longest_sample_gap_ns));
    const double pace = pace_of(during);
    metrics["during_ticks_per_ms"] = pace;
    metrics["slowdown_percent"] = kPercent * (1 - pace / before.ticks_per_ms);
    metrics["live_longest_extra_ms"] =
        std::max(0.0, metrics["live_longest_ms"] - metrics["before_longest_ms"]);
    if (during.handover) {
        const double live_ms = to_ms(during.handover->begin - during.first_time);
        if (live_ms > 0)
            metrics["live_slowdown_percent"] = kPercent * metrics["live_lost_ms"] / live_ms;
    }
}

nlohmann::json stall_series(const BlackoutReport& during, MonotonicTime origin) {
    std::vector<Stillness> longest = during.stalls;
    const size_t count = std::min(longest.size(), kMaxStallsTold);
    std::partial_sort(
        longest.begin(), longest.begin() + static_cast<std::ptrdiff_t>(count), longest.end(),
        [](const Stillness& a, const Stillness& b) { return a.length() > b.length(); });
    nlohmann::json series = nlohmann::json::array();
    for (size_t i = 0; i < count; ++i)
        series.push_back({to_ms(longest[i].begin - origin), to_ms(longest[i].length())});
    return series;
}

void add_series(const Before& before, const BlackoutReport& during, MonotonicTime requested,
                const std::vector<TracePoint>& after, nlohmann::json& series) {
    nlohmann::json pace = pace_series(before.report.trace, requested, kMaxPacePoints);
    for (const auto* trace : {&during.trace, &after})
        for (nlohmann::json& point : pace_series(*trace, requested, kMaxPacePoints))
            pace.push_back(std::move(point));
    series["pace"] = std::move(pace);
    series["stalls"] = stall_series(during, requested);
    if (during.handover)
        series["blackout"] = {to_ms(during.handover->begin - requested),
                              to_ms(during.handover->end - requested)};
}

}  // namespace

absl::StatusOr<MovedOnce> measure_fleet(Engine& engine, const MoveMeasure& options) {
    GODWIT_ASSIGN_OR_RETURN(MovedOnce moved, measure_move(engine, options));
    for (const char* name :
         {"slowdown_percent", "live_slowdown_percent", "write_slowdown_percent",
          "during_ticks_per_ms", "during_writes_per_s", "stall_ms", "stalls", "lost_ms",
          "live_lost_ms", "live_stall_ms", "live_longest_ms", "live_longest_extra_ms"})
        moved.metrics.erase(name);
    return moved;
}

absl::StatusOr<MovedOnce> measure_stay(Engine& engine, const MoveMeasure& options) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const Before before, watch_before(engine, options));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    MovedOnce stayed{.metrics = before_metrics(before, options)};
    // The same under the name that it has where the guest moves, to be set beside that.
    stayed.metrics["live_longest_ms"] = stayed.metrics["before_longest_ms"];
    stayed.series["pace"] =
        pace_series(before.report.trace, before.report.first_time, kMaxPacePoints);
    return stayed;
}

absl::StatusOr<MovedOnce> measure_move(Engine& engine, const MoveMeasure& options) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const Before before, watch_before(engine, options));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    GODWIT_ASSIGN_OR_RETURN(const auto warm, WarmMemory::hold(options.warm, options.cancel_fd));

    GODWIT_ASSIGN_OR_RETURN(const auto processes, ProcessWatch::start());
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, watch(engine, options));
    GODWIT_ASSIGN_OR_RETURN(const WriteCount first_write, count_writes(engine));
    GODWIT_ASSIGN_OR_RETURN(const CostReading begin, read_costs(engine, options));
    GODWIT_ASSIGN_OR_RETURN(CpuLatencyHold awake, CpuLatencyHold::take(options.cpu_latency));
    const MonotonicTime requested = Clock::system().now();
    GODWIT_ASSIGN_OR_RETURN(Metrics metrics, engine.move());
    GODWIT_ASSIGN_OR_RETURN(const CostReading end, read_costs(engine, options));
    awake = {};
    Metrics used = processes->stop();
    const absl::Status runs = ticks_there(engine, options.cancel_fd);
    const BlackoutReport during = sampler.stop();
    // At once: what follows takes up to a second, of which nothing would be known.
    std::optional<BlackoutSampler> later;
    const MonotonicTime later_ends = Clock::system().now() + options.after;
    if (options.after > Duration::zero()) {
        GODWIT_ASSIGN_OR_RETURN(later, watch(engine, options));
    }
    GODWIT_RETURN_IF_ERROR(runs);
    GODWIT_ASSIGN_OR_RETURN(const WriteCount last_write, count_writes(engine));

    GODWIT_ASSIGN_OR_RETURN(Metrics details, engine.details());
    metrics.merge(details);
    MovedOnce moved;
    GODWIT_ASSIGN_OR_RETURN(moved.series, engine.series());
    GODWIT_RETURN_IF_ERROR(goes_on(engine, during.last_tick, kTurnsAfterwards, options.cancel_fd));
    std::vector<TracePoint> after;
    if (later) {
        const absl::Status waited = wait_readable(-1, options.cancel_fd, later_ends);
        if (absl::IsCancelled(waited)) return waited;
        after = later->stop().trace;
    }

    metrics.merge(used);
    metrics.merge(before_metrics(before, options));
    add_cost(begin, end, before.cpu_per_s, options, metrics);
    add_times_touched(options, metrics);
    const MonotonicTime last_page =
        requested + std::chrono::duration_cast<Duration>(
                        std::chrono::duration<double, std::milli>(metrics["total_ms"]));
    add_pauses(seen_between(during, requested, last_page), before, options, metrics);
    metrics.merge(write_metrics(before.writes, {first_write, last_write},
                                during.handover ? during.handover->length() : Duration{}));
    if (options.idle) keep_of_idle(to_ms(options.watch), 1 / before.ticks_per_ms, metrics);
    std::vector<TracePoint> since = during.trace;
    since.insert(since.end(), after.begin(), after.end());
    metrics.merge(pace_after(since, last_page));
    add_series(before, during, requested, after, moved.series);
    moved.metrics = std::move(metrics);
    return moved;
}

}  // namespace godwit
