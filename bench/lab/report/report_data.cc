#include "bench/lab/report/report_data.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <optional>
#include <set>

#include "bench/lab/report/permutation.h"

namespace godwit {
namespace {

using nlohmann::json;

constexpr double kPerMiB = 1.0 / (1 << 20);
constexpr std::array<ReportColumn, 21> kColumns{
    {{"total_ms", "total ms", 1, true},
     {"prediction.total_ms.mid", "foretold total ms", 1, true, false},
     {"downtime_ms", "downtime ms", 1, true},
     {"blackout_ms", "blackout ms", 1, true},
     {"stall_ms", "stall ms", 1, true},
     {"slowdown_percent", "slowdown %", 1, true, false},
     {"cpu_s", "CPU s", 1, true},
     {"link_bytes", "link MiB", kPerMiB, true},
     {"retransmissions", "sent again", 1, true, false},
     {"client_blackout_ms", "client's blackout ms", 1, true},
     {"client_during_per_s", "answers/s meanwhile", 1, false},
     {"wire_bytes", "sent MiB, engine's count", kPerMiB, true},
     {"peak_memory_bytes", "memory MiB", kPerMiB, true},
     {"rounds", "rounds", 1, true, false},
     {"faults", "faults", 1, true, false},
     {"fault_p99_us", "fault p99 µs", 1, true},
     {"fault_mean_us", "fault mean µs", 1, true},
     {"before_ticks_per_ms", "turns/ms before", 1, false},
     {"after_0_10_ticks_per_ms", "turns/ms 0–10 s after", 1, false},
     {"after_10_30_ticks_per_ms", "turns/ms 10–30 s after", 1, false},
     {"after_30_90_ticks_per_ms", "turns/ms 30–90 s after", 1, false}}};
constexpr const char* kTime = "total_ms";

std::vector<double> values(const RowResults* row, const std::string& metric) {
    return row == nullptr ? std::vector<double>{} : values_of(row->runs, metric);
}

const RowResults* find_row(const std::vector<RowResults>& rows, const std::string& label) {
    const auto found = std::find_if(rows.begin(), rows.end(),
                                    [&](const RowResults& row) { return row.label == label; });
    return found == rows.end() ? nullptr : &*found;
}

// Of these the one with the first median time in such an order.
template <typename Before>
const RowResults* first_by_time(const std::vector<const RowResults*>& rows, Before before) {
    const RowResults* first = nullptr;
    for (const RowResults* row : rows) {
        const auto time = median(values(row, kTime));
        if (time && (first == nullptr || before(*time, *median(values(first, kTime))))) first = row;
    }
    return first;
}

const RowResults* fastest(const std::vector<const RowResults*>& rows) {
    return first_by_time(rows, std::less<>());
}

const RowResults* baseline_of(const std::vector<RowResults>& rows) {
    std::vector<const RowResults*> peers;
    for (const RowResults& row : rows)
        if (row.kind == "qemu" && row.label.find("-shared") == std::string::npos)
            peers.push_back(&row);
    if (const RowResults* best = fastest(peers); best != nullptr) return best;
    const auto ran = std::find_if(rows.begin(), rows.end(),
                                  [](const RowResults& row) { return !row.runs.empty(); });
    return ran == rows.end() ? nullptr : &*ran;
}

json series_of(const RowResults& row) {
    const auto middle = median(values(&row, kTime));
    const json* best = nullptr;
    double distance = 0;
    for (size_t i = 0; i < row.runs.size() && i < row.series.size(); ++i) {
        const auto time = row.runs[i].find(kTime);
        const double away =
            middle && time != row.runs[i].end() ? std::abs(time->second - *middle) : 0;
        if (best != nullptr && away >= distance) continue;
        best = &row.series[i];
        distance = away;
    }
    return best == nullptr ? json::object() : *best;
}

json row_data(const RowResults& row, const RowResults* baseline) {
    std::set<std::string> metrics;
    for (const Metrics& run : row.runs)
        for (const auto& [name, value] : run) metrics.insert(name);
    json stats = json::object();
    for (const std::string& metric : metrics) stats[metric] = stats_of(values(&row, metric));
    json against = json::object();
    for (const ReportColumn& column : kColumns) {
        if (!column.has_ratio) continue;
        if (json one = versus(values(&row, column.metric), values(baseline, column.metric));
            !one.is_null())
            against[column.metric] = std::move(one);
    }
    return {{"label", row.label},      {"kind", row.kind},
            {"n", row.runs.size()},    {"failed", row.failed},
            {"missing", row.missing},  {"error", row.last_error},
            {"stats", stats},          {"versus", std::move(against)},
            {"series", series_of(row)}};
}

std::string target_text(const AskedTarget& asked, const std::string& peer) {
    const Target& target = asked.target;
    const bool most = target.kind == Bound::kAtMost;
    if (target.peers.empty()) return fmt::format("{} of {}", target.metric, target.ours);
    const std::string& theirs = peer.empty() ? target.peers.front() : peer;
    if (asked.difference) return fmt::format("{}: {} − {}", target.metric, target.ours, theirs);
    return fmt::format("{}: {} / {}", target.metric, most ? target.ours : theirs,
                       most ? theirs : target.ours);
}

// What is held against the bound.
std::optional<double> compared(const AskedTarget& asked, std::optional<double> ours,
                               std::optional<double> theirs) {
    if (asked.target.peers.empty()) return ours;
    if (asked.difference) return ours && theirs ? std::optional(*ours - *theirs) : std::nullopt;
    return asked.target.kind == Bound::kAtMost ? ratio(ours, theirs) : ratio(theirs, ours);
}

}  // namespace

std::span<const ReportColumn> report_columns() { return kColumns; }

nlohmann::json stats_of(const std::vector<double>& all) {
    if (all.empty()) return nullptr;
    return {{"median", *median(all)},
            {"q1", *quantile(all, 0.25)},
            {"q3", *quantile(all, 0.75)},
            {"min", *quantile(all, 0)},
            {"max", *quantile(all, 1)},
            {"n", all.size()},
            {"values", all}};
}

nlohmann::json versus(const std::vector<double>& a, const std::vector<double>& b) {
    const auto quotient = ratio(median(a), median(b));
    if (!quotient) return nullptr;
    return {{"ratio", *quotient}, {"p", permutation_p(a, b)}, {"delta", cliffs_delta(a, b)}};
}

nlohmann::json judge_target(const AskedTarget& asked, const std::vector<RowResults>& rows) {
    const Target& target = asked.target;
    const bool most = target.kind == Bound::kAtMost;
    std::vector<const RowResults*> peers;
    for (const std::string& label : target.peers) peers.push_back(find_row(rows, label));
    const RowResults* peer =
        asked.slowest ? first_by_time(peers, std::greater<>()) : fastest(peers);
    // Peers that move nothing have no time.
    for (size_t i = 0; peer == nullptr && i < peers.size(); ++i)
        if (!values(peers[i], target.metric).empty()) peer = peers[i];
    const RowResults* row = find_row(rows, target.ours);
    const std::vector<double> ours = values(row, target.metric);
    const std::vector<double> theirs = values(peer, target.metric);
    const auto value = compared(asked, median(ours), median(theirs));
    const int failed = row == nullptr ? 0 : row->failed;
    const bool met = value && (most ? *value <= target.bound : *value >= target.bound);
    const std::string name = peer == nullptr ? "" : peer->label;
    return {{"text", target_text(asked, name)},
            {"metric", target.metric},
            {"ours", target.ours},
            {"peer", name},
            {"value", value ? json(*value) : json()},
            {"asked", fmt::format("{} {:g}{}", most ? "≤" : "≥", target.bound,
                                  asked.difference ? " above" : "")},
            {"verdict", failed > 0 ? "missed"
                        : !value   ? "not measured"
                        : met      ? "met"
                                   : "missed"},
            {"n", ours.size()},
            {"peer_n", theirs.size()},
            {"failed", failed},
            {"issue", asked.issue}};
}

nlohmann::json report_data(const ResultFile& results) {
    json scenarios = json::array();
    for (const ScenarioResults& scenario : results.scenarios) {
        const RowResults* baseline = baseline_of(scenario.rows);
        json rows = json::array();
        for (const RowResults& row : scenario.rows) rows.push_back(row_data(row, baseline));
        json targets = json::array();
        for (const AskedTarget& asked : scenario.targets)
            targets.push_back(judge_target(asked, scenario.rows));
        scenarios.push_back({{"name", scenario.name},
                             {"about", scenario.about},
                             {"setting", scenario.setting},
                             {"baseline", baseline == nullptr ? "" : baseline->label},
                             {"rows", std::move(rows)},
                             {"targets", std::move(targets)}});
    }
    json columns = json::array();
    for (const ReportColumn& column : kColumns)
        columns.push_back({{"metric", column.metric},
                           {"heading", column.heading},
                           {"scale", column.scale},
                           {"low_is_good", column.low_is_good}});
    return {{"setting", results.setting},
            {"columns", std::move(columns)},
            {"scenarios", std::move(scenarios)}};
}

}  // namespace godwit
