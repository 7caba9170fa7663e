#include "bench/lab/prediction/prediction_options.h"

#include <fmt/format.h>

#include <regex>

namespace godwit {

void add_prediction_options(CLI::App& app, PredictionOptions& options) {
    options.lab.program = "godwit-lab prediction";
    options.lab.repeats = 1;
    options.lab.warm_up = 0;
    options.lab.limit = std::chrono::minutes(3);
    app.add_option("--seed", options.lab.seed,
                   "Of the grid, of what is held out, and of the guests' writes")
        ->capture_default_str();
    add_duration(app, "--sample", options.sample, "How long each plan watches the guest");
    app.add_option("--filter", options.filter,
                   "Only cells whose name matches this regular expression, as --dry-run has them");
    app.add_option("--wait-idle", options.lab.idle_percent,
                   "Begin a cell only when the CPUs were so many percent idle, or after half a "
                   "minute; 0: at once")
        ->check(CLI::Range(0, 99))
        ->capture_default_str();
    app.add_option("--qemu", options.lab.qemu)->capture_default_str();
    app.add_option("--scratch", options.lab.scratch, "A directory for what is needed meanwhile")
        ->capture_default_str();
    app.add_option("--out", options.out,
                   "Directory for results and note; default: a new one below build/bench");
    app.add_option("--note", options.note, "Write table, cells and plots here as well");
    app.add_option("--resume", options.resume, "Go on with an interrupted run's directory");
    app.add_option("--report", options.report,
                   "Make the note of these results once more, and run nothing");
    app.add_flag("--dry-run", options.dry_run, "Say what would run, and run nothing");
    app.add_flag("--json", options.json, "Print JSON instead of text");
    app.footer(
        "Example:\n  godwit-lab prediction --seed 1 --wait-idle 80 --note papers/prediction\n\n"
        "84 migrations over links of 0.5, 1 and 2 Gb/s, each after a plan; a third is held out. "
        "papers/prediction/README.md says what the figures are.");
}

absl::StatusOr<std::vector<GridCell>> chosen_cells(const PredictionOptions& options) {
    const std::vector<GridCell> grid = prediction_grid(options.lab.seed);
    if (options.filter.empty()) return grid;
    std::vector<GridCell> chosen;
    try {
        const std::regex wanted(options.filter);
        for (const GridCell& cell : grid)
            if (std::regex_search(cell.name, wanted)) chosen.push_back(cell);
    } catch (const std::regex_error& error) {
        return absl::InvalidArgumentError(
            fmt::format("--filter {} is no regular expression: {}", options.filter, error.what()));
    }
    if (chosen.empty())
        return absl::InvalidArgumentError(
            fmt::format("--filter {} matches no cell: --dry-run lists them", options.filter));
    return chosen;
}

}  // namespace godwit
