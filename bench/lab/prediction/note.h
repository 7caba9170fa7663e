// The note on a grid: table, cells and plots, made of its results.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/prediction/score.h"

namespace godwit {

struct GridResults {
    nlohmann::json setting;
    std::vector<CellOutcome> outcomes;
    std::vector<std::string> failed;  // names of cells, with what went wrong
};

// Of a directory with runs.jsonl. A cell that failed and was run again counts as it was last.
// Errors: NotFound; InvalidArgument.
absl::StatusOr<GridResults> read_grid(const std::string& directory);

// Median and 90th percentile of the errors, of the tuned two thirds, the third held out, and all;
// precision and recall.
std::string score_table(const GridResults& results);
// One line for each cell: what was foretold and what came.
std::string cells_csv(const GridResults& results);
nlohmann::json score_json(const GridResults& results);

// results.md, cells.csv, total.svg, downtime.svg and errors.svg; returns their paths. Error:
// Unavailable.
absl::StatusOr<std::vector<std::string>> write_note(const GridResults& results,
                                                    const std::string& directory);

}  // namespace godwit
