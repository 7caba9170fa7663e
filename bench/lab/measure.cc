#include "bench/lab/measure.h"

#include <algorithm>

#include "bench/lab/guest_checks.h"
#include "bench/lab/warm_memory.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr uint64_t kTurnsAfterwards = 2000;

absl::StatusOr<BlackoutSampler> start_sampler(Engine& engine, const MeasureOptions& options) {
    return BlackoutSampler::start({.more = engine.ticks(), .period = options.sample_period});
}

struct Stalls {
    double total_ms = 0;
    double longest_ms = 0;
    double count = 0;
};

// Those that begin within [begin, end).
Stalls stalls_within(const std::vector<Stillness>& all, MonotonicTime begin, MonotonicTime end,
                     Duration period) {
    Stalls stalls;
    for (const Stillness& stall : all) {
        if (stall.begin < begin || stall.begin >= end) continue;
        const double length_ms = std::max(0.0, to_ms(stall.length() - period));
        stalls.total_ms += length_ms;
        stalls.longest_ms = std::max(stalls.longest_ms, length_ms);
        ++stalls.count;
    }
    return stalls;
}

// Where no source changed: rather one that a sample fell into than a hiccup of the sampler.
Stillness longest_stall(const BlackoutReport& report) {
    const auto longest = std::max_element(
        report.stalls.begin(), report.stalls.end(),
        [](const Stillness& a, const Stillness& b) { return a.length() < b.length(); });
    return longest == report.stalls.end() ? report.longest : *longest;
}

double pace(const BlackoutReport& report) {
    return static_cast<double>(report.last_tick - report.first_tick) /
           to_ms(report.last_time - report.first_time);
}

absl::StatusOr<BlackoutReport> watch_baseline(Engine& engine, const MeasureOptions& options,
                                              int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, start_sampler(engine, options));
    const absl::Status waited =
        wait_readable(-1, cancel_fd, Clock::system().now() + options.baseline);
    if (absl::IsCancelled(waited)) return waited;
    BlackoutReport report = sampler.stop();
    if (report.new_ticks < 2)
        return absl::FailedPreconditionError("the guest shows no ticks before it is moved");
    return report;
}

}  // namespace

Metrics stall_metrics(const BlackoutReport& report, std::chrono::nanoseconds period,
                      double ticks_per_ms) {
    const Stillness handover = report.handover ? *report.handover : longest_stall(report);
    const MonotonicTime cut = handover.begin;
    const Stalls live = stalls_within(report.stalls, MonotonicTime::min(), cut, period);
    const Stalls after = stalls_within(report.stalls, cut, MonotonicTime::max(), period);
    return {
        {"blackout_ms", to_ms(handover.length())},
        {"stall_ms", after.total_ms},
        {"longest_stall_ms", after.longest_ms},
        {"stalls", after.count},
        {"lost_ms", lost_ms(to_ms(report.last_time - cut),
                            static_cast<double>(report.last_tick - handover.tick), ticks_per_ms)},
        {"live_stall_ms", live.total_ms},
        {"live_longest_ms", live.longest_ms},
        {"live_lost_ms",
         lost_ms(to_ms(cut - report.first_time),
                 static_cast<double>(handover.tick - report.first_tick), ticks_per_ms)}};
}

absl::StatusOr<Metrics> measure(Engine& engine, const MeasureOptions& options, int cancel_fd) {
    GODWIT_RETURN_IF_ERROR(engine.start_guest());
    GODWIT_ASSIGN_OR_RETURN(const BlackoutReport before,
                            watch_baseline(engine, options, cancel_fd));
    GODWIT_RETURN_IF_ERROR(well_before(engine));
    GODWIT_ASSIGN_OR_RETURN(const auto warm, WarmMemory::hold(options.warm, cancel_fd));
    GODWIT_ASSIGN_OR_RETURN(BlackoutSampler sampler, start_sampler(engine, options));
    auto metrics = engine.move();
    const absl::Status runs = metrics.ok() ? ticks_there(engine, cancel_fd) : absl::OkStatus();
    const BlackoutReport during = sampler.stop();
    if (!metrics.ok()) return metrics.status();
    GODWIT_RETURN_IF_ERROR(runs);
    GODWIT_ASSIGN_OR_RETURN(const Metrics details, engine.details());
    GODWIT_RETURN_IF_ERROR(goes_on(engine, during.last_tick, kTurnsAfterwards, cancel_fd));

    metrics->insert(details.begin(), details.end());
    const double ticks_per_ms = pace(before);
    metrics->merge(stall_metrics(during, options.sample_period, ticks_per_ms));
    (*metrics)["sample_gap_ms"] = to_ms(Duration(during.longest_sample_gap_ns));
    (*metrics)["before_ticks_per_ms"] = ticks_per_ms;
    const Stalls calm = stalls_within(before.stalls, MonotonicTime::min(), MonotonicTime::max(),
                                      options.sample_period);
    (*metrics)["before_stall_ms_per_s"] =
        1e3 * calm.total_ms / to_ms(before.last_time - before.first_time);
    return metrics;
}

}  // namespace godwit
