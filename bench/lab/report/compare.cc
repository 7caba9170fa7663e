#include "bench/lab/report/compare.h"

#include <fmt/format.h>

#include <algorithm>

#include "bench/lab/report/permutation.h"
#include "bench/lab/report/report_data.h"

namespace godwit {
namespace {

constexpr double kChance = 0.05;
constexpr const char* kFailed = "failed";

std::string verdict_of(const Change& change, double tolerance, bool low_is_good) {
    const bool up = change.ratio > 1 + tolerance;
    const bool down = change.ratio < 1 / (1 + tolerance);
    if (change.p >= kChance || (!up && !down)) return "same";
    return up == low_is_good ? "worse" : "better";
}

double share_failed(const RowResults& row) {
    const double ran = static_cast<double>(row.runs.size()) + row.failed;
    if (ran > 0) return row.failed / ran;
    return row.missing ? 1 : 0;
}

void compare_failures(const std::string& scenario, const RowResults& before,
                      const RowResults& after, std::vector<Change>& changes) {
    // What was not there before is new rather than mended.
    if (before.missing && before.runs.empty()) return;
    Change change{.scenario = scenario,
                  .row = before.label,
                  .metric = kFailed,
                  .before = share_failed(before),
                  .after = share_failed(after)};
    if (change.before == 0 && change.after == 0) return;
    change.ratio = ratio(change.after, change.before).value_or(0);
    change.verdict = change.after > change.before   ? "worse"
                     : change.after < change.before ? "better"
                                                    : "same";
    changes.push_back(std::move(change));
}

void compare_rows(const std::string& scenario, const RowResults& before, const RowResults& after,
                  std::vector<Change>& changes) {
    for (const ReportColumn& column : report_columns()) {
        if (!column.has_ratio) continue;
        const std::vector<double> a = values_of(before.runs, column.metric);
        const std::vector<double> b = values_of(after.runs, column.metric);
        const auto quotient = ratio(median(b), median(a));
        if (!quotient) continue;
        changes.push_back({.scenario = scenario,
                           .row = before.label,
                           .metric = column.metric,
                           .before = *median(a),
                           .after = *median(b),
                           .ratio = *quotient,
                           .p = permutation_p(b, a),
                           .least = least_p(b.size(), a.size()),
                           .delta = cliffs_delta(b, a)});
    }
}

bool low_is_better(const std::string& metric) {
    for (const ReportColumn& column : report_columns())
        if (metric == column.metric) return column.low_is_good;
    return true;
}

void judge_changes(double tolerance, std::vector<Change>& changes) {
    std::vector<double> p;
    p.reserve(changes.size());
    for (const Change& change : changes) p.push_back(change.p);
    p = holm(p);
    for (size_t i = 0; i < changes.size(); ++i) {
        changes[i].p = p[i];
        changes[i].verdict = verdict_of(changes[i], tolerance, low_is_better(changes[i].metric));
    }
}

// The p of a figure whose runs before and after are wholly apart, were it the only one.
double best_p(const std::vector<Change>& changes) {
    double least = 1;
    double tested = 0;
    for (const Change& change : changes) {
        if (change.metric == kFailed) continue;
        least = std::min(least, change.least);
        ++tested;
    }
    return tested == 0 ? 0 : std::min(1.0, tested * least);
}

}  // namespace

std::vector<Change> compare(const ResultFile& before, const ResultFile& after, double tolerance) {
    std::vector<Change> changes;
    std::vector<Change> failures;
    for (const ScenarioResults& first : before.scenarios)
        for (const ScenarioResults& second : after.scenarios) {
            if (first.name != second.name) continue;
            for (const RowResults& a : first.rows)
                for (const RowResults& b : second.rows)
                    if (a.label == b.label) {
                        compare_rows(first.name, a, b, changes);
                        compare_failures(first.name, a, b, failures);
                    }
        }
    judge_changes(tolerance, changes);
    changes.insert(changes.begin(), failures.begin(), failures.end());
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
    text += fmt::format("{} figures compared, {} the same; p is corrected for so many (Holm)\n",
                        changes.size(), same);
    if (const double best = best_p(changes); best >= kChance)
        text += fmt::format(
            "There are too few runs for so many figures: a change that all runs show has p {:.2f} "
            "here. Take more --repeats, or fewer figures by --filter.\n",
            best);
    return text;
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
