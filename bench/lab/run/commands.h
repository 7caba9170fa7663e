// The commands of godwit-lab. Each returns an exit code: 0, 1 when a run failed or something became
// worse, 2 for usage, 130 when it was interrupted.
#pragma once

#include <string>

#include "bench/lab/prediction/prediction_options.h"
#include "bench/lab/run/run_options.h"

namespace godwit {

// Exit code: what was typed makes no sense.
inline constexpr int kUsage = 2;

struct CompareOptions {
    RunOptions run;  // revisions only
    std::string before, after;
    double tolerance = 0.05;
    bool all = false;
};

struct PaperOptions {
    std::string name;    // a directory of papers/ with an experiment.yaml
    std::string papers;  // where these are
    std::string out;     // empty: beside the experiment
    bool list = false;
};

int run_command(RunOptions options);
int report_command(const std::string& path);
int compare_command(CompareOptions options);
int prediction_command(PredictionOptions options);
int paper_command(const PaperOptions& options);

// Runs what `options` name and writes results and reports to options.out, which is made where it is
// empty.
int run_scenarios(RunOptions& options, bool quiet);

// "godwit-lab: MESSAGE" on stderr; returns `code`.
int complain(const absl::Status& status, int code);

}  // namespace godwit
