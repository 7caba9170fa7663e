#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cstdio>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "bench/lab/lab.h"
#include "bench/lab/prediction/grid_run.h"
#include "bench/lab/prediction/note.h"
#include "bench/lab/report/results.h"
#include "bench/lab/run/commands.h"
#include "bench/lab/run/result_dir.h"

namespace godwit {
namespace {

int say_cells(const std::vector<GridCell>& cells, bool as_json) {
    nlohmann::json all = nlohmann::json::array();
    for (const GridCell& cell : cells) {
        all.push_back(cell_json(cell));
        if (!as_json) fmt::print("{}{}\n", cell.name, cell.held_out ? "  (held out)" : "");
    }
    if (as_json) std::cout << all.dump(1) << std::endl;
    return 0;
}

std::string new_grid_directory() {
    const auto programs = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    return fmt::format("{}/../../bench/prediction-{:%Y%m%d-%H%M%S}", programs.string(),
                       fmt::localtime(std::time(nullptr)));
}

int say_note(const std::string& directory, const PredictionOptions& options) {
    const auto results = read_grid(directory);
    if (!results.ok()) return complain(results.status(), kUsage);
    if (options.json)
        std::cout << score_json(*results).dump(1) << std::endl;
    else
        std::cout << score_table(*results) << std::flush;
    for (const std::string& to : {directory, options.note}) {
        if (to.empty()) continue;
        const auto paths = write_note(*results, to);
        if (!paths.ok()) return complain(paths.status(), 1);
        for (const std::string& path : *paths)
            if (!options.json) fmt::print("{}\n", path);
    }
    return 0;
}

// What was asked for then, and which cells ended well.
absl::StatusOr<std::set<std::string>> resume_grid(PredictionOptions& options) {
    std::ifstream in(options.resume + "/" + kRunsFile);
    if (!in)
        return absl::NotFoundError(
            fmt::format("there is no {}/{}: --resume wants the directory of an interrupted run",
                        options.resume, kRunsFile));
    std::set<std::string> done;
    bool known = false;
    for (std::string text; std::getline(in, text);) {
        const auto line = nlohmann::json::parse(text, nullptr, false);
        if (!line.is_object()) continue;
        if (line.value("kind", "") == "run" && line.value("ok", false))
            done.insert(line.value("cell", ""));
        if (line.value("kind", "") != "setting" || line.value("grid", "") != "prediction") continue;
        known = true;
        options.lab.seed = line.value("seed", uint64_t{1});
        options.filter = line.value("filter", "");
        options.sample =
            std::chrono::microseconds(static_cast<int64_t>(line.value("sample_ms", 1000.0) * 1000));
    }
    if (!known)
        return absl::InvalidArgumentError(
            fmt::format("{} has no results of a grid: start anew", options.resume));
    options.out = options.resume;
    return done;
}

}  // namespace

int prediction_command(PredictionOptions options) {
    if (!options.report.empty()) return say_note(options.report, options);
    std::set<std::string> done;
    if (!options.resume.empty()) {
        auto before = resume_grid(options);
        if (!before.ok()) return complain(before.status(), kUsage);
        done = *std::move(before);
    }
    const auto cells = chosen_cells(options);
    if (!cells.ok()) return complain(cells.status(), kUsage);
    if (options.dry_run) return say_cells(*cells, options.json);
    if (options.out.empty()) options.out = new_grid_directory();
    auto lines =
        options.resume.empty() ? create_results(options.out) : continue_results(options.out);
    if (!lines.ok()) return complain(lines.status(), kUsage);
    const auto lab = Lab::open(options.lab);
    if (!lab.ok()) return complain(lab.status(), 1);
    nlohmann::json setting = (*lab)->setting();
    setting["grid"] = "prediction";
    setting["filter"] = options.filter;
    setting["sample_ms"] = to_ms(options.sample);
    lines->write(setting);
    GridRun run(**lab, {.directory = options.out, .sample = options.sample, .done = done}, *lines);
    const auto summary = run.run(*cells);
    if (!summary.ok()) return complain(summary.status(), 1);
    const int said = say_note(options.out, options);
    if (!summary->whole) {
        std::fprintf(stderr, "interrupted; to go on: godwit-lab prediction --resume %s\n",
                     std::filesystem::weakly_canonical(options.out).c_str());
        return kInterrupted;
    }
    return summary->failed > 0 ? 1 : said;
}

}  // namespace godwit
