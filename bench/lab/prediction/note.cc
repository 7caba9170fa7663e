#include "bench/lab/prediction/note.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>

#include "bench/lab/report/results.h"
#include "bench/lab/report/svg_plot.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

enum class Part { kTuned, kHeldOut, kAll };

const char* part_name(Part part) {
    if (part == Part::kTuned) return "tuning";
    return part == Part::kHeldOut ? "held out" : "all";
}

std::vector<CellOutcome> part_of(const GridResults& results, Part part, bool both_models) {
    std::vector<CellOutcome> some;
    for (const CellOutcome& outcome : results.outcomes)
        if ((part == Part::kAll || outcome.held_out == (part == Part::kHeldOut)) &&
            (!both_models || outcome.geometric))
            some.push_back(outcome);
    return some;
}

struct ScoreRow {
    std::string label;
    PredictionScore score;
};

std::vector<ScoreRow> score_rows(const GridResults& results) {
    std::vector<ScoreRow> rows;
    for (const Part part : {Part::kTuned, Part::kHeldOut, Part::kAll}) {
        const auto all = part_of(results, part, false);
        const auto both = part_of(results, part, true);
        rows.push_back({fmt::format("{}: working set", part_name(part)),
                        score_of(all, Foreteller::kWorkingSet)});
        rows.push_back(
            {fmt::format("{}: working set, where the geometric model has a say", part_name(part)),
             score_of(both, Foreteller::kWorkingSet)});
        rows.push_back({fmt::format("{}: geometric", part_name(part)),
                        score_of(both, Foreteller::kGeometric)});
    }
    return rows;
}

std::string percent(std::optional<double> value) {
    return value ? fmt::format("{:.1f} %", *value * 100) : "-";
}

std::string times(std::optional<double> value) {
    return value ? fmt::format("{:.2f}", *value) : "-";
}

std::string number(std::optional<double> value) {
    return value ? fmt::format("{:.1f}", *value) : "";
}

PlotSeries dots(const GridResults& results, const std::string& label, Foreteller by, bool total) {
    PlotSeries series{.label = label};
    for (const CellOutcome& outcome : results.outcomes) {
        if (by == Foreteller::kGeometric && !outcome.geometric) continue;
        const MigrationEnd& foretold =
            by == Foreteller::kGeometric ? *outcome.geometric : outcome.working_set;
        if (total)
            series.points.push_back({outcome.actual.total_ms, foretold.total_ms});
        else if (foretold.downtime_ms && outcome.actual.downtime_ms)
            series.points.push_back({*outcome.actual.downtime_ms, *foretold.downtime_ms});
    }
    return series;
}

// The part of the cells whose total time is at most so wrong.
PlotSeries error_curve(const GridResults& results, const std::string& label, Foreteller by) {
    std::vector<double> errors;
    for (const CellOutcome& outcome : results.outcomes) {
        if (!outcome.geometric) continue;
        errors.push_back(
            total_error(by == Foreteller::kGeometric ? *outcome.geometric : outcome.working_set,
                        outcome.actual));
    }
    std::sort(errors.begin(), errors.end());
    PlotSeries series{.label = label, .line = true};
    for (size_t i = 0; i < errors.size(); ++i)
        series.points.push_back(
            {std::max(errors[i] * 100, 0.01),
             100 * static_cast<double>(i + 1) / static_cast<double>(errors.size())});
    return series;
}

Plot scatter(const GridResults& results, const char* what, bool total) {
    return {.title = fmt::format("{}: foretold and measured", what),
            .x = {.label = fmt::format("measured {} [ms]", what), .logarithmic = true},
            .y = {.label = fmt::format("foretold {} [ms]", what), .logarithmic = true},
            .series = {dots(results, "working set", Foreteller::kWorkingSet, total),
                       dots(results, "geometric", Foreteller::kGeometric, total)},
            .diagonal = true};
}

Plot error_plot(const GridResults& results) {
    return {.title = "Pre-copy and stop-and-copy: error of the foretold total time",
            .x = {.label = "error at most [%]", .logarithmic = true},
            .y = {.label = "of the migrations [%]"},
            .series = {error_curve(results, "working set", Foreteller::kWorkingSet),
                       error_curve(results, "geometric", Foreteller::kGeometric)}};
}

std::string setting_text(const json& setting) {
    return fmt::format("Seed {}, revision {}, kernel {}, CPU {}, QEMU {} with {}, sample {} ms.\n",
                       setting.value("seed", 0), setting.value("git", "?"),
                       setting.value("kernel", "?"), setting.value("cpu", "?"),
                       setting.value("qemu", "?"), setting.value("accel", "?"),
                       setting.value("sample_ms", 0.0));
}

}  // namespace

absl::StatusOr<GridResults> read_grid(const std::string& directory) {
    const std::string path = directory + "/" + kRunsFile;
    std::ifstream in(path);
    if (!in)
        return absl::NotFoundError(
            fmt::format("there is no {}: name the directory of a grid's results", path));
    GridResults results;
    std::vector<std::string> order;
    std::map<std::string, json> last;
    for (std::string text; std::getline(in, text);) {
        json line = json::parse(text, nullptr, false);
        if (!line.is_object()) continue;  // the lab was killed while it wrote
        const std::string kind = line.value("kind", "");
        if (kind == "setting" && results.setting.is_null()) results.setting = line;
        if (kind != "run") continue;
        const std::string cell = line.value("cell", "");
        if (!last.contains(cell)) order.push_back(cell);
        last[cell] = std::move(line);
    }
    if (results.setting.value("grid", "") != "prediction")
        return absl::InvalidArgumentError(
            fmt::format("{} is no result of `godwit-lab prediction`", path));
    for (const std::string& cell : order) {
        const json& line = last[cell];
        if (!line.value("ok", false)) {
            results.failed.push_back(fmt::format("{}: {}", cell, line.value("error", "")));
            continue;
        }
        GODWIT_ASSIGN_OR_RETURN(CellOutcome outcome, outcome_of(line));
        results.outcomes.push_back(std::move(outcome));
    }
    return results;
}

std::string score_table(const GridResults& results) {
    std::string text =
        "| cells: model | runs | total time: median | p90 | downtime: median | p90 | over 100 ms | "
        "\"will not converge\": precision | recall | came, did not |\n"
        "|---|---|---|---|---|---|---|---|---|---|\n";
    for (const auto& [label, score] : score_rows(results))
        text += fmt::format("| {} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {} |\n", label,
                            score.runs, percent(score.total_median), percent(score.total_p90),
                            times(score.downtime_median), times(score.downtime_p90),
                            score.long_downtimes, percent(score.precision()),
                            percent(score.recall()), score.foretold_and_came + score.came_only,
                            score.foretold_only + score.neither);
    text +=
        "\nErrors of the downtime are in units of max(10 %, 3 ms); \"came, did not\" counts the "
        "migrations with live rounds that did not converge, and those that did.\n";
    for (const std::string& failed : results.failed) text += fmt::format("\nFailed: {}\n", failed);
    return text;
}

nlohmann::json score_json(const GridResults& results) {
    const auto value = [](std::optional<double> number) {
        return number ? json(*number) : json(nullptr);
    };
    json rows = json::array();
    for (const auto& [label, score] : score_rows(results))
        rows.push_back({{"cells", label},
                        {"runs", score.runs},
                        {"total_error_median", value(score.total_median)},
                        {"total_error_p90", value(score.total_p90)},
                        {"downtime_error_median", value(score.downtime_median)},
                        {"downtime_error_p90", value(score.downtime_p90)},
                        {"downtimes", score.downtimes},
                        {"long_downtimes", score.long_downtimes},
                        {"no_converge_precision", value(score.precision())},
                        {"no_converge_recall", value(score.recall())},
                        {"foretold_and_came", score.foretold_and_came},
                        {"foretold_only", score.foretold_only},
                        {"came_only", score.came_only},
                        {"neither", score.neither}});
    return {{"setting", results.setting}, {"scores", rows}, {"failed", results.failed}};
}

std::string cells_csv(const GridResults& results) {
    std::string text =
        "cell,held_out,total_ms,foretold_total_ms,geometric_total_ms,downtime_ms,"
        "foretold_downtime_ms,geometric_downtime_ms,converged,foretold_converged,"
        "geometric_converged\n";
    for (const CellOutcome& one : results.outcomes) {
        const auto converged = [&](bool value) {
            return !one.has_rounds ? "" : value ? "yes" : "no";
        };
        const auto geometric = [&](auto get) {
            return one.geometric ? number(get(*one.geometric)) : std::string();
        };
        const auto total = [](const MigrationEnd& end) -> std::optional<double> {
            return end.total_ms;
        };
        const auto downtime = [](const MigrationEnd& end) { return end.downtime_ms; };
        text +=
            fmt::format("{},{},{:.1f},{:.1f},{},{},{},{},{},{},{}\n", one.name,
                        one.held_out ? "yes" : "no", one.actual.total_ms, one.working_set.total_ms,
                        geometric(total), number(one.actual.downtime_ms),
                        number(one.working_set.downtime_ms), geometric(downtime),
                        converged(one.actual.converged), converged(one.working_set.converged),
                        one.geometric ? converged(one.geometric->converged) : "");
    }
    return text;
}

absl::StatusOr<std::vector<std::string>> write_note(const GridResults& results,
                                                    const std::string& directory) {
    const std::pair<const char*, std::string> files[] = {
        {"results.md", setting_text(results.setting) + "\n" + score_table(results)},
        {"cells.csv", cells_csv(results)},
        {"total.svg", svg_plot(scatter(results, "total time", true))},
        {"downtime.svg", svg_plot(scatter(results, "downtime", false))},
        {"errors.svg", svg_plot(error_plot(results))}};
    std::error_code error;
    fs::create_directories(directory, error);
    std::vector<std::string> paths;
    for (const auto& [name, text] : files) {
        paths.push_back(fmt::format("{}/{}", directory, name));
        std::ofstream out(paths.back(), std::ios::trunc);
        out << text;
        out.close();
        if (!out) return absl::UnavailableError(fmt::format("Cannot write {}", paths.back()));
    }
    return paths;
}

}  // namespace godwit
