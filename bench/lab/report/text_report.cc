#include "bench/lab/report/text_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "bench/lab/table.h"

namespace godwit {
namespace {

using nlohmann::json;

constexpr double kSure = 0.05;

std::string cell_text(double value) {
    const double size = std::abs(value);
    return fmt::format("{:.{}f}", value, size >= 100 ? 0 : size >= 10 ? 1 : 2);
}

// "8.90 [8.71 9.02]"
std::string spread(const json& stats, double scale) {
    if (!stats.is_object()) return "–";
    const auto at = [&](const char* key) { return cell_text(stats[key].get<double>() * scale); };
    if (stats["n"] == 1) return at("median");
    return fmt::format("{} [{} {}]", at("median"), at("q1"), at("q3"));
}

std::string ratio_text(const json& versus) {
    if (!versus.is_object()) return "";
    return fmt::format(" ×{:.2f}{} ({:+.2f})", versus["ratio"].get<double>(),
                       versus["p"].get<double>() < kSure ? "" : "?", versus["delta"].get<double>());
}

bool has_metric(const json& scenario, const std::string& metric) {
    return std::any_of(scenario["rows"].begin(), scenario["rows"].end(),
                       [&](const json& row) { return row["stats"].contains(metric); });
}

std::string row_line(const json& row, const std::vector<json>& columns,
                     const std::string& baseline) {
    if (row["n"] == 0)
        return fmt::format("| {} | {} |{}\n", row["label"].get<std::string>(),
                           (row["missing"].get<bool>() ? "skipped: " : "failed: ") +
                               row["error"].get<std::string>(),
                           std::string(columns.size(), '|'));
    std::string text = fmt::format(
        "| {} | {}{} |", row["label"].get<std::string>(), row["n"].get<int>(),
        row["failed"] == 0 ? "" : fmt::format(" ({} failed)", row["failed"].get<int>()));
    for (const json& column : columns) {
        const std::string metric = column["metric"];
        text += " " + spread(row["stats"].value(metric, json()), column["scale"]);
        if (row["label"] != baseline) text += ratio_text(row["versus"].value(metric, json()));
        text += " |";
    }
    return text + "\n";
}

std::string scenario_text(const json& scenario, const json& all_columns) {
    std::vector<json> columns;
    for (const json& column : all_columns)
        if (has_metric(scenario, column["metric"])) columns.push_back(column);
    const json& setting = scenario["setting"];
    std::string text = fmt::format("\n## {}\n\n{}", scenario["name"].get<std::string>(),
                                   scenario["about"].get<std::string>());
    if (setting.is_object()) {
        text += fmt::format(" ({}", setting.value("accel", "?"));
        if (const double rate = setting.value("link_bytes_per_s", 0.0); rate > 0)
            text += fmt::format(", {:g} Gb/s", rate * 8 / 1e9);
        if (const double delay = setting.value("link_delay_ms", 0.0); delay > 0)
            text += fmt::format(", {:g} ms each way", delay);
        text += ")";
    }
    text += "\n\n| row | runs |";
    for (const json& column : columns) text += " " + column["heading"].get<std::string>() + " |";
    text += "\n|---|---|";
    for (size_t i = 0; i < columns.size(); ++i) text += "---|";
    text += "\n";
    const std::string baseline = scenario["baseline"];
    for (const json& row : scenario["rows"]) text += row_line(row, columns, baseline);
    if (!baseline.empty()) text += fmt::format("\n× is the ratio to {}.\n", baseline);
    return text;
}

std::string csv_word(const std::string& word) {
    if (word.find_first_of(",\"\n") == std::string::npos) return word;
    std::string quoted = "\"";
    for (const char c : word) quoted += c == '"' ? std::string("\"\"") : std::string(1, c);
    return quoted + "\"";
}

std::vector<json> all_targets(const json& data) {
    std::vector<json> all;
    for (const json& scenario : data["scenarios"])
        for (json target : scenario["targets"]) {
            target["scenario"] = scenario["name"];
            all.push_back(std::move(target));
        }
    return all;
}

std::string value_text(const json& target) {
    return target["value"].is_null() ? "–" : cell_text(target["value"].get<double>());
}

// "5", "5, 4"
std::string n_text(const json& target) {
    const int ours = target["n"];
    if (target["peer"].get<std::string>().empty()) return fmt::format("{}", ours);
    return fmt::format("{}, {}", ours, target["peer_n"].get<int>());
}

// "missed (2 of 5 failed)"
std::string verdict_text(const json& target) {
    const int failed = target["failed"];
    std::string text = target["verdict"];
    if (failed > 0)
        text += fmt::format(" ({} of {} failed)", failed, failed + target["n"].get<int>());
    return text;
}

}  // namespace

std::string markdown_report(const nlohmann::json& data) {
    const json& setting = data["setting"];
    std::string text = fmt::format(
        "# godwit-lab\n\nGodwit {}, QEMU {}, kernel {}, {} × {}, seed {}. Medians [quartiles]; × "
        "beside a figure is its ratio to the scenario's baseline, with ? where chance alone makes "
        "as much of a difference in more than one of twenty cases (permutation test), and in "
        "brackets Cliff's delta: from -1, all runs below all of the baseline's, to +1, all above. "
        "n "
        "of a target: runs of ours, of its peer.\n",
        setting.value("git", "?"), setting.value("qemu", "?"), setting.value("kernel", "?"),
        setting.value("cpus", 0), setting.value("cpu", "?"), setting.value("seed", 0));
    const std::vector<json> targets = all_targets(data);
    if (!targets.empty()) {
        text +=
            "\n## Targets\n\n| scenario | target | asked | measured | n | |\n"
            "|---|---|---|---|---|---|\n";
        for (const json& target : targets)
            text += fmt::format(
                "| {} | {} | {} | {} | {} | {} |\n", target["scenario"].get<std::string>(),
                target["text"].get<std::string>(), target["asked"].get<std::string>(),
                value_text(target), n_text(target), verdict_text(target));
    }
    for (const json& scenario : data["scenarios"]) text += scenario_text(scenario, data["columns"]);
    return text;
}

std::string csv_report(const nlohmann::json& data) {
    std::string text = "scenario,row,metric,n,median,q1,q3,min,max,ratio,p,delta\n";
    for (const json& scenario : data["scenarios"])
        for (const json& row : scenario["rows"])
            for (const auto& [metric, stats] : row["stats"].items()) {
                text += fmt::format("{},{},{},{}", csv_word(scenario["name"]),
                                    csv_word(row["label"]), csv_word(metric), stats["n"].dump());
                for (const char* key : {"median", "q1", "q3", "min", "max"})
                    text += "," + stats[key].dump();
                const json versus = row["versus"].value(metric, json::object());
                for (const char* key : {"ratio", "p", "delta"})
                    text += "," + (versus.contains(key) ? versus[key].dump() : "");
                text += "\n";
            }
    return text;
}

std::string target_table(const nlohmann::json& data) {
    std::string text;
    for (const json& target : all_targets(data))
        text +=
            fmt::format("{:<12} {:>8}  {:<10} {:<20} {}\n", verdict_text(target),
                        value_text(target), target["asked"].get<std::string>(),
                        target["scenario"].get<std::string>(), target["text"].get<std::string>());
    return text;
}

}  // namespace godwit
