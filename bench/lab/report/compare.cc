#include "bench/lab/report/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/lab/report/permutation.h"
#include "bench/lab/report/report_data.h"

namespace godwit {
namespace {

constexpr double kChance = 0.05;

std::string verdict_of(const Change& change, double tolerance, bool low_is_good) {
    const bool up = change.ratio > 1 + tolerance;
    const bool down = change.ratio < 1 / (1 + tolerance);
    if (change.p >= kChance || (!up && !down)) return "same";
    return up == low_is_good ? "worse" : "better";
}

void compare_rows(const std::string& scenario, const RowResults& before, const RowResults& after,
                  double tolerance, std::vector<Change>& changes) {
    for (const ReportColumn& column : report_columns()) {
        if (!column.has_ratio) continue;
        const std::vector<double> a = values_of(before.runs, column.metric);
        const std::vector<double> b = values_of(after.runs, column.metric);
        const auto quotient = ratio(median(b), median(a));
        if (!quotient) continue;
        Change change{.scenario = scenario,
                      .row = before.label,
                      .metric = column.metric,
                      .before = *median(a),
                      .after = *median(b),
                      .ratio = *quotient,
                      .p = permutation_p(b, a),
                      .delta = cliffs_delta(b, a)};
        change.verdict = verdict_of(change, tolerance, column.low_is_good);
        changes.push_back(std::move(change));
    }
}

}  // namespace

std::vector<Change> compare(const ResultFile& before, const ResultFile& after, double tolerance) {
    std::vector<Change> changes;
    for (const ScenarioResults& first : before.scenarios)
        for (const ScenarioResults& second : after.scenarios) {
            if (first.name != second.name) continue;
            for (const RowResults& a : first.rows)
                for (const RowResults& b : second.rows)
                    if (a.label == b.label) compare_rows(first.name, a, b, tolerance, changes);
        }
    return changes;
}

ResultFile only_build(const ResultFile& results, const std::string& label) {
    const std::string end = "@" + label;
    ResultFile some = results;
    for (ScenarioResults& scenario : some.scenarios) {
        std::erase_if(scenario.rows,
                      [&](const RowResults& row) { return !row.label.ends_with(end); });
        for (RowResults& row : scenario.rows) row.label.resize(row.label.size() - end.size());
    }
    return some;
}

std::string render_changes(const std::vector<Change>& changes, bool all) {
    std::string text;
    size_t same = 0;
    for (const Change& change : changes) {
        if (change.verdict == "same") ++same;
        if (!all && change.verdict == "same") continue;
        text += fmt::format(
            "{:<7} {:<28} {:<32} {:<18} {:>10} -> {:>10}  x{:.3f}  p {:.3f}  delta {:+.2f}\n",
            change.verdict, change.scenario, change.row, change.metric, number_text(change.before),
            number_text(change.after), change.ratio, change.p, change.delta);
    }
    return text + fmt::format("{} figures compared, {} the same\n", changes.size(), same);
}

nlohmann::json changes_json(const std::vector<Change>& changes) {
    nlohmann::json all = nlohmann::json::array();
    for (const Change& change : changes)
        all.push_back({{"scenario", change.scenario},
                       {"row", change.row},
                       {"metric", change.metric},
                       {"before", change.before},
                       {"after", change.after},
                       {"ratio", change.ratio},
                       {"p", change.p},
                       {"delta", change.delta},
                       {"verdict", change.verdict}});
    return all;
}

}  // namespace godwit
