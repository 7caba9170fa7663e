#include "bench/lab/report/results.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace godwit {
namespace {

using nlohmann::json;

json target_json(const AskedTarget& asked) {
    return {{"metric", asked.target.metric},
            {"ours", asked.target.ours},
            {"peers", asked.target.peers},
            {"kind", asked.target.kind == Bound::kAtMost ? "at_most" : "at_least"},
            {"bound", asked.target.bound},
            {"difference", asked.difference},
            {"slowest", asked.slowest},
            {"issue", asked.issue}};
}

AskedTarget target_of(const json& line) {
    AskedTarget asked{.issue = line.value("issue", "")};
    asked.target.metric = line.value("metric", "");
    asked.target.ours = line.value("ours", "");
    asked.target.peers = line.value("peers", std::vector<std::string>{});
    asked.target.kind = line.value("kind", "") == "at_least" ? Bound::kAtLeast : Bound::kAtMost;
    asked.target.bound = line.value("bound", 1.0);
    asked.difference = line.value("difference", false);
    asked.slowest = line.value("slowest", false);
    return asked;
}

ScenarioResults& scenario_of(ResultFile& file, const std::string& name) {
    const auto found = std::find_if(file.scenarios.begin(), file.scenarios.end(),
                                    [&](const ScenarioResults& one) { return one.name == name; });
    if (found != file.scenarios.end()) return *found;
    file.scenarios.push_back({.name = name});
    return file.scenarios.back();
}

RowResults& row_of(ScenarioResults& scenario, const std::string& label) {
    const auto found = std::find_if(scenario.rows.begin(), scenario.rows.end(),
                                    [&](const RowResults& row) { return row.label == label; });
    if (found != scenario.rows.end()) return *found;
    scenario.rows.push_back({.label = label, .kind = label.substr(0, label.find('-'))});
    return scenario.rows.back();
}

void add_scenario(const json& line, ResultFile& file) {
    ScenarioResults& scenario = scenario_of(file, line.value("name", ""));
    scenario.about = line.value("about", "");
    scenario.setting = line.value("setting", json::object());
    for (const json& label : line.value("rows", json::array())) row_of(scenario, label);
    scenario.targets.clear();
    for (const json& target : line.value("targets", json::array()))
        scenario.targets.push_back(target_of(target));
}

void add_run(const json& line, ResultFile& file) {
    RowResults& row = row_of(scenario_of(file, line.value("scenario", "")), line.value("row", ""));
    if (!line.value("ok", false)) {
        row.missing = line.value("missing", false);
        row.failed += row.missing ? 0 : 1;
        row.last_error = line.value("error", "");
        return;
    }
    if (line.value("repeat", 0) < 0) return;
    row.runs.push_back(line.value("metrics", Metrics{}));
    row.series.push_back(line.value("series", json::object()));
}

}  // namespace

nlohmann::json scenario_line(const Scenario& scenario, const std::vector<std::string>& rows,
                             const std::string& accel) {
    json targets = json::array();
    for (const AskedTarget& asked : scenario.targets) targets.push_back(target_json(asked));
    return {{"kind", "scenario"},
            {"name", scenario.name},
            {"about", scenario.about},
            {"setting",
             {{"accel", accel},
              {"link_bytes_per_s", scenario.link.bytes_per_s},
              {"link_burst_bytes", scenario.link.burst},
              {"link_delay_ms", to_ms(scenario.link.delay)},
              {"watch_us", scenario.watch.count()}}},
            {"rows", rows},
            {"targets", targets}};
}

absl::StatusOr<ResultFile> parse_results(const std::string& text, const std::string& path) {
    ResultFile file;
    std::istringstream lines(text);
    int number = 0;
    for (std::string line; std::getline(lines, line);) {
        ++number;
        if (line.empty()) continue;
        const json value = json::parse(line, nullptr, false);
        if (!value.is_object()) {
            if (lines.eof()) break;
            return absl::InvalidArgumentError(
                fmt::format("{}:{}: this is no line of results", path, number));
        }
        try {
            const std::string kind = value.value("kind", "");
            if (kind == "setting" && file.setting.is_null()) file.setting = value;
            if (kind == "scenario") add_scenario(value, file);
            if (kind == "run") add_run(value, file);
        } catch (const json::exception& error) {
            return absl::InvalidArgumentError(fmt::format("{}:{}: {}", path, number, error.what()));
        }
    }
    if (file.setting.is_null())
        return absl::InvalidArgumentError(
            fmt::format("{} has no line of the setting: it is no file of results", path));
    return file;
}

absl::StatusOr<ResultFile> read_results(const std::string& path) {
    const std::string file = std::filesystem::is_directory(path) ? path + "/" + kRunsFile : path;
    std::ifstream in(file);
    if (!in)
        return absl::NotFoundError(
            fmt::format("there are no results at {}; a run's directory has a {}", path, kRunsFile));
    return parse_results({std::istreambuf_iterator<char>(in), {}}, file);
}

}  // namespace godwit
