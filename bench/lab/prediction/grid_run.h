// GridRun: runs the cells of a grid and writes each down as soon as it has ended.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "bench/lab/lab.h"
#include "bench/lab/prediction/grid.h"
#include "bench/lab/run/progress.h"

namespace godwit {

struct GridRunOptions {
    std::string directory;       // of results: what a link's agents knew is kept there for a resume
    Duration sample{};           // of each plan
    std::set<std::string> done;  // names of cells
};

struct GridSummary {
    bool whole = true;  // not interrupted
    int failed = 0;
};

// For each link a network and two agents of their own. Their calibration begins with
// calibration_cells(), grows by the cells that are not held out, and is put back to what it was
// then before each held-out cell. Thread rule: one thread.
class GridRun {
  public:
    GridRun(Lab& lab, GridRunOptions options, JsonLines& lines)
        : lab_(lab), options_(std::move(options)), lines_(lines), progress_(stderr) {}

    // A cell that fails is noted, and the grid goes on. Errors: a link or agents that can't be
    // made.
    absl::StatusOr<GridSummary> run(const std::vector<GridCell>& grid);

  private:
    struct Stage;
    absl::Status run_link(Bytes link, const std::vector<GridCell>& cells);
    absl::Status prepare(Stage& stage);
    absl::Status run_one(const GridCell& cell, Stage& stage, const char* kind);
    void note(const GridCell& cell, const absl::StatusOr<nlohmann::json>& ran, nlohmann::json line);
    [[nodiscard]] std::string knowledge_path(Bytes link) const;

    Lab& lab_;
    const GridRunOptions options_;
    JsonLines& lines_;
    Progress progress_;
    Durations durations_;
    GridSummary summary_;
    int done_ = 0;
    std::vector<GridCell> left_;
};

// The axes of a cell, as a line of results has them.
nlohmann::json cell_json(const GridCell& cell);

}  // namespace godwit
