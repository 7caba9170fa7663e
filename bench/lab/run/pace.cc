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

Metrics pace_after(const std::vector<TracePoint>& trace) {
    Metrics metrics;
    if (trace.empty()) return metrics;
    const MonotonicTime origin = trace.front().at;
    for (const Window& window : kWindows) {
        const auto from = [&](int seconds) {
            return std::lower_bound(
                trace.begin(), trace.end(), origin + std::chrono::seconds(seconds),
                [](const TracePoint& point, MonotonicTime at) { return point.at < at; });
        };
        const auto begin = from(window.begin_s);
        const auto end = std::prev(from(window.end_s));
        if (begin == trace.end() || begin >= end) continue;
        metrics[fmt::format("after_{}_{}_ticks_per_ms", window.begin_s, window.end_s)] =
            ticks_per_ms(*begin, *end);
    }
    return metrics;
}

}  // namespace godwit
