// The directory of a run: runs.jsonl, which grows with each run, and the reports made of it.
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "bench/lab/json_lines.h"
#include "bench/lab/run/plan.h"
#include "engine/base/status.h"

namespace godwit {

// A new directory with an empty runs.jsonl. Errors: AlreadyExists when there are results in it.
absl::StatusOr<JsonLines> create_results(const std::string& directory);
// One that a run was interrupted in; a last line that is not whole is cut off. Errors: NotFound.
absl::StatusOr<JsonLines> continue_results(const std::string& directory);

// The line of the setting, as it was written first; runs that have ended, well or not, without
// warm-ups. Errors: those of read_results().
struct Interrupted {
    nlohmann::json setting;
    DoneRuns done;
};
absl::StatusOr<Interrupted> read_interrupted(const std::string& directory);

// Runs of two revisions, QEMUs or kernels under one name would be compared as one. Error:
// FailedPrecondition, when one of these is not as it was `first`.
absl::Status check_same_setting(const nlohmann::json& first, const nlohmann::json& now);

// report.json, report.md, report.csv, report.html; returns the paths of those written. Where the
// page's parts are missing `complaint` says so.
absl::StatusOr<std::vector<std::string>> write_reports(const std::string& directory,
                                                       const nlohmann::json& data,
                                                       const std::string& assets,
                                                       std::string& complaint);

}  // namespace godwit
