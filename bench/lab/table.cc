#include "bench/lab/table.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace godwit {
namespace {

int width_of(const Column& column) { return column.with_p90 ? 18 : 10; }

std::string cell(const Results& results, const Column& column) {
    const std::vector<double> values = values_of(results.runs, column.metric);
    const auto scaled = [&](double q) -> std::optional<double> {
        const auto value = quantile(values, q);
        return value ? std::optional(*value * column.scale) : std::nullopt;
    };
    if (!column.with_p90 || values.empty()) return number_text(scaled(0.5));
    return fmt::format("{} /{:>8}", number_text(scaled(0.5)), number_text(scaled(0.9)));
}

}  // namespace

std::string number_text(std::optional<double> value) {
    if (!value) return "-";
    return fmt::format("{:.{}f}", *value, std::abs(*value) < 100 ? 2 : 0);
}

std::optional<double> median_of(const std::vector<Results>& all, const std::string& engine,
                                const std::string& metric) {
    const auto found =
        std::find_if(all.begin(), all.end(), [&](const Results& r) { return r.engine == engine; });
    return found == all.end() ? std::nullopt : median(values_of(found->runs, metric));
}

std::string render_table(const std::vector<Results>& all, std::span<const Column> columns) {
    std::string text = fmt::format("{:<{}} {:>5}", "median / p90", kNameWidth, "runs");
    for (const Column& column : columns)
        text += fmt::format(" {:>{}}", column.heading, width_of(column));
    text += '\n';
    for (const Results& results : all) {
        if (results.missing) {
            text += fmt::format("{:<{}} not there: {}\n", results.engine, kNameWidth,
                                results.last_error);
            continue;
        }
        text += fmt::format("{:<{}} {:>5}", results.engine, kNameWidth, results.runs.size());
        for (const Column& column : columns)
            text += fmt::format(" {:>{}}", cell(results, column), width_of(column));
        text += '\n';
        if (results.failed > 0)
            text += fmt::format("    {} failed: {}\n", results.failed, results.last_error);
    }
    return text;
}

}  // namespace godwit
