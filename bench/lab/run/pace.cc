// The guest's pace over time, from samples of its ticks.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/lab/run/measure_move.h"

namespace godwit {
namespace {

struct Window {
    int begin_s;
    int end_s;
};
constexpr std::array<Window, 3> kWindows{{{0, 10}, {10, 30}, {30, 90}}};

// Of a window: what may be missing at either end of it.
constexpr std::chrono::milliseconds kMomentOfWindow{100};

// Between two points the guest is taken to run evenly.
uint64_t tick_at(const std::vector<TracePoint>& trace, MonotonicTime at) {
    const auto after = std::upper_bound(
        trace.begin(), trace.end(), at,
        [](MonotonicTime moment, const TracePoint& point) { return moment < point.at; });
    if (after == trace.begin()) return trace.front().tick;
    if (after == trace.end()) return trace.back().tick;
    const TracePoint& before = *std::prev(after);
    const double share = to_ms(at - before.at) / to_ms(after->at - before.at);
    return before.tick +
           static_cast<uint64_t>(share * static_cast<double>(after->tick - before.tick));
}

double ticks_per_ms(const TracePoint& begin, const TracePoint& end) {
    const double elapsed_ms = to_ms(end.at - begin.at);
    return elapsed_ms > 0 ? static_cast<double>(end.tick - begin.tick) / elapsed_ms : 0;
}

}  // namespace

nlohmann::json pace_series(const std::vector<TracePoint>& trace, MonotonicTime origin,
                           size_t limit) {
    nlohmann::json series = nlohmann::json::array();
    if (trace.empty() || limit == 0) return series;
    const size_t step = std::max<size_t>(1, (trace.size() - 1 + limit - 1) / limit);
    for (size_t i = step; i < trace.size(); i += step)
        series.push_back({to_ms(trace[i].at - origin), ticks_per_ms(trace[i - step], trace[i])});
    return series;
}

Metrics pace_after(const std::vector<TracePoint>& trace, MonotonicTime moved) {
    Metrics metrics;
    if (trace.empty()) return metrics;
    for (const Window& window : kWindows) {
        const MonotonicTime begin = moved + std::chrono::seconds(window.begin_s);
        const MonotonicTime end = moved + std::chrono::seconds(window.end_s);
        if (trace.front().at > begin + kMomentOfWindow || trace.back().at < end - kMomentOfWindow)
            continue;
        const auto clamped = [&](MonotonicTime at) {
            return TracePoint{std::clamp(at, trace.front().at, trace.back().at),
                              tick_at(trace, at)};
        };
        metrics[fmt::format("after_{}_{}_ticks_per_ms", window.begin_s, window.end_s)] =
            ticks_per_ms(clamped(begin), clamped(end));
    }
    return metrics;
}

Metrics write_metrics(const std::array<WriteCount, 2>& before,
                      const std::array<WriteCount, 2>& during, Duration still) {
    const auto per_s = [](const std::array<WriteCount, 2>& counts, Duration elapsed) {
        const double elapsed_ms = to_ms(elapsed);
        if (elapsed_ms <= 0 || counts[1].writes < counts[0].writes) return 0.0;
        return 1e3 * static_cast<double>(counts[1].writes - counts[0].writes) / elapsed_ms;
    };
    const double calm = per_s(before, before[1].at - before[0].at);
    if (calm <= 0) return {};
    const double moving = per_s(during, during[1].at - during[0].at - still);
    return {{"before_writes_per_s", calm},
            {"during_writes_per_s", moving},
            {"write_slowdown_percent", 1e2 * (1 - moving / calm)}};
}

void keep_of_idle(double watch_ms, double turn_ms, Metrics& metrics) {
    constexpr double kWellAbove = 5;
    for (const char* name :
         {"stall_ms", "longest_stall_ms", "stalls", "lost_ms", "live_stall_ms", "live_longest_ms",
          "live_lost_ms", "live_longest_extra_ms", "slowdown_percent", "live_slowdown_percent",
          "during_ticks_per_ms", "before_longest_ms", "before_stall_ms_per_s"})
        metrics.erase(name);
    const auto blackout = metrics.find("blackout_ms");
    if (blackout != metrics.end() && blackout->second < kWellAbove * std::max(watch_ms, turn_ms))
        metrics.erase(blackout);
}

BlackoutReport seen_between(BlackoutReport report, MonotonicTime begin, MonotonicTime end) {
    // Before the first tick there is none to count from.
    std::erase_if(report.trace,
                  [&](const TracePoint& point) { return point.tick < report.first_tick; });
    if (report.trace.empty()) return report;
    if (report.handover) end = std::max(end, report.handover->end);
    if (begin > report.first_time) {
        report.first_tick = tick_at(report.trace, begin);
        report.first_time = begin;
    }
    if (end < report.last_time) {
        report.last_tick = tick_at(report.trace, end);
        report.last_time = end;
    }
    std::erase_if(report.stalls,
                  [&](const Stillness& stall) { return stall.end <= begin || stall.begin >= end; });
    return report;
}

}  // namespace godwit
