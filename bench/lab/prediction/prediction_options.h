// What `godwit-lab prediction` was asked to do.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "bench/lab/lab_options.h"
#include "bench/lab/prediction/grid.h"

namespace godwit {

struct PredictionOptions {
    LabOptions lab;
    Duration sample = std::chrono::seconds(1);  // of each plan
    std::string filter;
    std::string out;
    std::string resume;
    std::string note;    // a directory for table, cells and plots beside the results
    std::string report;  // results to make these of, without running anything
    bool dry_run = false;
    bool json = false;
};

// Adds them; `options` must outlive `app`.
void add_prediction_options(CLI::App& app, PredictionOptions& options);

// The cells whose names match the filter. Error: InvalidArgument for an expression that is none,
// or that matches nothing.
absl::StatusOr<std::vector<GridCell>> chosen_cells(const PredictionOptions& options);

}  // namespace godwit
