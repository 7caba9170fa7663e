#include "bench/lab/postcopy_table.h"

#include <fmt/format.h>

#include <array>

namespace godwit {
namespace {

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

}  // namespace

std::span<const Column> postcopy_columns() { return kColumns; }

std::string render_ratios(const std::vector<Results>& all) {
    std::string text = fmt::format("{:<{}}", "ratio of medians", kNameWidth);
    for (const Comparison& comparison : kComparisons)
        text += fmt::format(" {:>{}}", comparison.heading, kNameWidth - 6);
    text += '\n';
    for (const Results& results : all) {
        if (results.runs.empty()) continue;
        text += fmt::format("{:<{}}", results.engine, kNameWidth);
        for (const Comparison& comparison : kComparisons)
            text += fmt::format(
                " {:>{}}",
                number_text(ratio(median_of(all, results.engine, comparison.metric),
                                  median_of(all, comparison.reference, comparison.metric))),
                kNameWidth - 6);
        text += '\n';
    }
    return text;
}

}  // namespace godwit
