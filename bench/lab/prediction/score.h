// What the predictions of a grid were worth. Pure: lines of results go in, errors come out.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

// What was foretold of a migration, or what came. A migration that gives up has no downtime.
struct MigrationEnd {
    double total_ms = 0;
    std::optional<double> downtime_ms;
    bool converged = false;  // meaningful where there are live rounds
};

struct CellOutcome {
    std::string name;
    std::string strategy;
    bool held_out = false;
    bool has_rounds = false;
    MigrationEnd actual;
    MigrationEnd working_set;
    // The classical model (engine/model/geometric.h) on the plan's own measurements: touched RAM as
    // Vm, R and fixed costs as the other model has them, D from the longest window. Its rounds are
    // bounded by what bounds the engine's. Absent where it says nothing: post-copy and hybrid.
    std::optional<MigrationEnd> geometric;
};

// Of a line {"kind": "run", "ok": true, …, "plan", "report"}. Errors: InvalidArgument, where
// something is missing in it.
absl::StatusOr<CellOutcome> outcome_of(const nlohmann::json& line);

enum class Foreteller { kWorkingSet, kGeometric };

// A downtime may be off by a tenth of it, and by this much where that is less.
inline constexpr double kDowntimeTolerance_ms = 3;
inline constexpr double kLongDowntime_ms = 100;

struct PredictionScore {
    size_t runs = 0;
    // |foretold - came| / came.
    std::optional<double> total_median, total_p90;
    // |foretold - came| / max(10 %, 3 ms): 1 is the target.
    std::optional<double> downtime_median, downtime_p90;
    size_t downtimes = 0;
    size_t long_downtimes = 0;  // over kLongDowntime_ms
    // "Will not converge", of migrations with live rounds.
    size_t foretold_and_came = 0, foretold_only = 0, came_only = 0, neither = 0;
    [[nodiscard]] std::optional<double> precision() const;
    [[nodiscard]] std::optional<double> recall() const;
};

// Of the outcomes that `by` says something about.
PredictionScore score_of(const std::vector<CellOutcome>& outcomes, Foreteller by);

// Errors of one foretelling; of the downtime absent where one of both has none.
double total_error(const MigrationEnd& foretold, const MigrationEnd& came);
std::optional<double> downtime_error(const MigrationEnd& foretold, const MigrationEnd& came);

}  // namespace godwit
