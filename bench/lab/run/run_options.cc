#include "bench/lab/run/run_options.h"

#include <fmt/format.h>

namespace godwit {

void add_measuring_options(CLI::App& app, RunOptions& options) {
    options.lab.program = "godwit-lab";
    options.lab.repeats = 0;
    options.scenarios = GODWIT_SOURCE_DIR "/bench/scenarios";
    app.add_option("--filter", options.filter,
                   "Only where \"SCENARIO: ROW\" matches this regular expression");
    app.add_option("--repeats", options.lab.repeats,
                   "Of every row; 0: the scenario's own, else 5; 10 for what is to be published")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_option("--warm-up", options.lab.warm_up, "Repeats before those that count")
        ->check(CLI::Range(0, 10))
        ->capture_default_str();
    app.add_option("--wait-idle", options.lab.idle_percent,
                   "Begin a run only when the CPUs were so many percent idle; 0: at once")
        ->check(CLI::Range(0, 99))
        ->capture_default_str();
    app.add_option("--accel", options.lab.accel)
        ->check(CLI::IsMember({"auto", "kvm", "tcg"}))
        ->capture_default_str();
    app.add_option("--qemu", options.qemus,
                   "The QEMU of all rows; given again: another one for QEMU's own rows, beside it");
    app.add_option("--seed", options.lab.seed,
                   "Of the guest's writes, plus one for each repeat, and of the order of runs")
        ->capture_default_str();
    app.add_option("--scenarios", options.scenarios, "Directory of the scenarios (*.yaml)")
        ->capture_default_str();
    app.add_option("--scratch", options.lab.scratch, "A directory for what is needed meanwhile")
        ->capture_default_str();
    app.add_option("--out", options.out,
                   "Directory for results and report; default: a new one below build/bench");
    app.add_flag("--json", options.json, "Print JSON instead of text");
}

void add_run_options(CLI::App& app, RunOptions& options) {
    app.add_option("NAME", options.names,
                   "Sets (smoke, standard, full) and scenarios, as --list has them");
    add_measuring_options(app, options);
    app.add_option(
        "--godwit", options.builds,
        "LABEL=DIRECTORY: the programs of another build; given twice: both, interleaved");
    app.add_option("--resume", options.resume, "Go on with an interrupted run's directory");
    app.add_flag("--list", options.list, "Say what there is, and run nothing");
    app.add_flag("--dry-run", options.dry_run, "Say what would run, and run nothing");
}

nlohmann::json arguments_json(const RunOptions& options) {
    return {{"names", options.names},         {"filter", options.filter},
            {"repeats", options.lab.repeats}, {"warm_up", options.lab.warm_up},
            {"accel", options.lab.accel},     {"seed", options.lab.seed},
            {"qemus", options.qemus},         {"builds", options.builds},
            {"scenarios", options.scenarios}, {"wait_idle", options.lab.idle_percent}};
}

absl::Status apply_arguments(const nlohmann::json& arguments, RunOptions& options) {
    try {
        arguments.at("names").get_to(options.names);
        arguments.at("filter").get_to(options.filter);
        arguments.at("repeats").get_to(options.lab.repeats);
        arguments.at("warm_up").get_to(options.lab.warm_up);
        arguments.at("accel").get_to(options.lab.accel);
        arguments.at("seed").get_to(options.lab.seed);
        arguments.at("qemus").get_to(options.qemus);
        arguments.at("builds").get_to(options.builds);
        arguments.at("scenarios").get_to(options.scenarios);
        arguments.at("wait_idle").get_to(options.lab.idle_percent);
    } catch (const nlohmann::json::exception& error) {
        return absl::InvalidArgumentError(
            fmt::format("the results do not say what was asked for: {}", error.what()));
    }
    return absl::OkStatus();
}

absl::StatusOr<Build> parse_build(const std::string& text) {
    const size_t equals = text.find('=');
    if (equals == 0 || equals == std::string::npos || equals + 1 == text.size())
        return absl::InvalidArgumentError(
            fmt::format("\"{}\" is no build: write --godwit LABEL=DIRECTORY", text));
    return Build{.label = text.substr(0, equals), .bin_dir = text.substr(equals + 1)};
}

}  // namespace godwit
