// Experiments of papers/: figures as data, each a sweep of one number x through models and the
// simulator. `papers/NAME/experiment.yaml`:
//
//   figures:
//     - name: total                     # NAME.svg and NAME.csv
//       title: What pre-copy takes
//       x: {label: "r", values: [0.1, 0.5, 0.9]}
//       y: {label: "total time [s]", log: true}
//       series:
//         - {label: simulated, metric: migration_s.p50, run: "--writes {x*30000} --vms 1"}
//         - {label: geometric, metric: total_s, model: geometric-precopy,
//            input: {memory_bytes: 1e9, page_rate: 125e6, dirty_pages_per_s: "{x*30000}"}}
//
// `run`: words of godwit-sim, whose --json has the metric (by path; what it does not have counts as
// 0). `model`: geometric-precopy, geometric-serial, geometric-parallel (input m) or working-set
// (inputs strategy, set_pages and writes_per_s of a uniform writer). "{x}", "{x*N}" and "{x/N}"
// stand for numbers; `times` scales the metric.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/lab/report/svg_plot.h"
#include "engine/base/status.h"

namespace godwit {

struct ExperimentSeries {
    std::string label;
    std::string metric;
    double times = 1;
    std::string run;    // words of godwit-sim, or
    std::string model;  // a model's name, with
    std::map<std::string, std::string> input;
};

struct Figure {
    std::string name;
    std::string title;
    PlotAxis x;
    PlotAxis y;
    std::vector<double> values;
    std::vector<ExperimentSeries> series;
};

// Errors: InvalidArgument, "FILE:LINE: KEY: what is wrong".
absl::StatusOr<std::vector<Figure>> parse_experiment(const std::string& text,
                                                     const std::string& file);

// "{x*2}s" with x = 3 is "6s". Error: InvalidArgument for what is in braces and is none of it.
absl::StatusOr<std::string> fill_in(const std::string& text, double x);

// One metric of a model. Errors: InvalidArgument (no such model, input or metric; absurd numbers).
absl::StatusOr<double> model_metric(const ExperimentSeries& series, double x);

// A column for x and one for each series; as many rows as values.
std::string figure_csv(const Figure& figure, const std::vector<PlotSeries>& found);

}  // namespace godwit
