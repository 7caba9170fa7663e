#include "bench/lab/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace godwit {
namespace {

struct Column {
    const char* heading;
    const char* metric;
    double scale;
    bool with_p90;
};

constexpr std::array<Column, 12> kColumns{{{"downtime ms", "downtime_ms", 1, true},
                                           {"blackout ms", "blackout_ms", 1, true},
                                           {"stall ms", "stall_ms", 1, true},
                                           {"longest ms", "longest_stall_ms", 1, false},
                                           {"lost ms", "lost_ms", 1, true},
                                           {"live stall", "live_stall_ms", 1, false},
                                           {"total ms", "total_ms", 1, true},
                                           {"drain ms", "drain_ms", 1, false},
                                           {"faults", "faults", 1, false},
                                           {"mean us", "fault_mean_us", 1, false},
                                           {"p99 us", "fault_p99_us", 1, false},
                                           {"MiB", "wire_bytes", 1.0 / (1 << 20), false}}};

struct Comparison {
    const char* metric;
    const char* reference;
    const char* heading;
};

constexpr std::array<Comparison, 6> kComparisons{
    {{"downtime_ms", "floor", "downtime/floor"},
     {"downtime_ms", "qemu-postcopy", "downtime/postcopy"},
     {"blackout_ms", "floor", "blackout/floor"},
     {"stall_ms", "qemu-postcopy", "stall/postcopy"},
     {"stall_ms", "qemu-preempt", "stall/preempt"},
     {"total_ms", "qemu-postcopy", "total/postcopy"}}};

constexpr int kNameWidth = 24;

int width_of(const Column& column) { return column.with_p90 ? 18 : 10; }

std::string number(std::optional<double> value) {
    if (!value) return "-";
    return fmt::format("{:.{}f}", *value, std::abs(*value) < 100 ? 2 : 0);
}

std::string cell(const Results& results, const Column& column) {
    const std::vector<double> values = values_of(results.runs, column.metric);
    const auto scaled = [&](double q) -> std::optional<double> {
        const auto value = quantile(values, q);
        return value ? std::optional(*value * column.scale) : std::nullopt;
    };
    if (!column.with_p90 || values.empty()) return number(scaled(0.5));
    return fmt::format("{} /{:>8}", number(scaled(0.5)), number(scaled(0.9)));
}

}  // namespace

std::string render_table(const std::vector<Results>& all) {
    std::string text = fmt::format("{:<{}} {:>5}", "median / p90", kNameWidth, "runs");
    for (const Column& column : kColumns)
        text += fmt::format(" {:>{}}", column.heading, width_of(column));
    text += '\n';
    for (const Results& results : all) {
        if (results.missing) {
            text += fmt::format("{:<{}} not there: {}\n", results.engine, kNameWidth,
                                results.last_error);
            continue;
        }
        text += fmt::format("{:<{}} {:>5}", results.engine, kNameWidth, results.runs.size());
        for (const Column& column : kColumns)
            text += fmt::format(" {:>{}}", cell(results, column), width_of(column));
        text += '\n';
        if (results.failed > 0)
            text += fmt::format("    {} failed: {}\n", results.failed, results.last_error);
    }
    return text;
}

std::string render_ratios(const std::vector<Results>& all) {
    const auto median_of = [&](const std::string& engine, const char* metric) {
        const auto found = std::find_if(all.begin(), all.end(),
                                        [&](const Results& r) { return r.engine == engine; });
        return found == all.end() ? std::nullopt : median(values_of(found->runs, metric));
    };
    std::string text = fmt::format("{:<{}}", "ratio of medians", kNameWidth);
    for (const Comparison& comparison : kComparisons)
        text += fmt::format(" {:>{}}", comparison.heading, kNameWidth - 6);
    text += '\n';
    for (const Results& results : all) {
        if (results.runs.empty()) continue;
        text += fmt::format("{:<{}}", results.engine, kNameWidth);
        for (const Comparison& comparison : kComparisons)
            text += fmt::format(" {:>{}}",
                                number(ratio(median_of(results.engine, comparison.metric),
                                             median_of(comparison.reference, comparison.metric))),
                                kNameWidth - 6);
        text += '\n';
    }
    return text;
}

}  // namespace godwit
