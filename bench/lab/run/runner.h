// Runner: runs what is planned and writes each run down as soon as it has ended.
#pragma once

#include <memory>
#include <vector>

#include "bench/lab/lab.h"
#include "bench/lab/run/measure_move.h"
#include "bench/lab/run/plan.h"
#include "bench/lab/run/progress.h"

namespace godwit {

struct RunSummary {
    bool whole = true;  // not interrupted
    int failed = 0;     // that should not have
};

// Thread rule: one thread.
class Runner {
  public:
    // `lines` gets a line for each scenario and each run.
    Runner(Lab& lab, const PlanOptions& options, JsonLines& lines)
        : lab_(lab), options_(options), lines_(lines), progress_(stderr) {}

    // What fails is noted and the run goes on; what is not there (Unimplemented) is not tried
    // again. Errors: a link that cannot be made.
    absl::StatusOr<RunSummary> run(const std::vector<PlannedScenario>& plan, const DoneRuns& done);

  private:
    struct Stage;
    absl::StatusOr<bool> run_scenario(const PlannedScenario& planned,
                                      const std::vector<Step>& steps);
    absl::StatusOr<MovedOnce> move_once(const PlannedRow& row, int repeat, Stage& stage);
    bool run_step(const PlannedScenario& planned, const Step& step, Stage& stage);
    void note(const PlannedScenario& planned, const Step& step,
              const absl::StatusOr<MovedOnce>& moved, nlohmann::json line, double wall_s);
    // With `done` of the steps that are left.
    [[nodiscard]] ProgressState state(const PlannedScenario& planned, const Step& step,
                                      int done) const;

    Lab& lab_;
    const PlanOptions options_;
    JsonLines& lines_;
    Progress progress_;
    Durations durations_;
    RunSummary summary_;
    int done_ = 0;
    std::vector<std::pair<std::string, std::string>> left_;  // scenario and row of steps to come
};

}  // namespace godwit
