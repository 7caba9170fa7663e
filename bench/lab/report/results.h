// Results: what the lab wrote, read back: a directory with runs.jsonl, or such a file.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/scenario/scenario.h"
#include "bench/lab/statistics.h"

namespace godwit {

inline constexpr const char* kRunsFile = "runs.jsonl";

// All runs of one row, the warm-up left out.
struct RowResults {
    std::string label;
    std::string kind;                    // godwit, qemu, floor, copy, stay
    std::vector<Metrics> runs;           // those that succeeded
    std::vector<nlohmann::json> series;  // of each of these
    int failed = 0;                      // those that did not, warm-ups included
    bool missing = false;                // this build, QEMU or machine does not have it
    std::string last_error;
};

struct ScenarioResults {
    std::string name;
    std::string about;
    nlohmann::json setting;  // accel, link
    std::vector<RowResults> rows;
    std::vector<AskedTarget> targets;
};

struct ResultFile {
    nlohmann::json setting;  // provenance and options
    std::vector<ScenarioResults> scenarios;
};

// The line that stands for a scenario; `rows` as they are run.
nlohmann::json scenario_line(const Scenario& scenario, const std::vector<std::string>& rows,
                             const std::string& accel);

// A last line that is not whole (the lab was killed while it wrote) is left out. Errors: NotFound;
// InvalidArgument for what is no result file, with its line.
absl::StatusOr<ResultFile> read_results(const std::string& path);
absl::StatusOr<ResultFile> parse_results(const std::string& text, const std::string& path);

}  // namespace godwit
