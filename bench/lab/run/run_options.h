// What `godwit-lab` was asked to run.
#pragma once

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/lab_options.h"
#include "bench/lab/run/plan.h"

namespace godwit {

struct RunOptions {
    LabOptions lab;                  // repeats 0: each scenario's own, else 5
    std::vector<std::string> names;  // sets and scenarios
    std::string filter;
    std::vector<std::string> qemus;   // programs, the first one for all
    std::vector<std::string> builds;  // "LABEL=DIRECTORY of its programs"; none: beside this one
    std::string scenarios;            // their directory
    std::string out;                  // empty: a new one below build/bench
    std::string resume;               // a directory of results to go on with
    bool list = false;
    bool dry_run = false;
    bool json = false;
};

// Adds them; `options` must outlive `app`.
void add_run_options(CLI::App& app, RunOptions& options);
// Those that matter for how a run is measured and interleaved, not what is run.
void add_measuring_options(CLI::App& app, RunOptions& options);

// What decides which runs there are, kept in the line of the setting, so that --resume knows it.
nlohmann::json arguments_json(const RunOptions& options);
// Error: InvalidArgument.
absl::Status apply_arguments(const nlohmann::json& arguments, RunOptions& options);

// "LABEL=DIRECTORY". Error: InvalidArgument.
absl::StatusOr<Build> parse_build(const std::string& text);

}  // namespace godwit
