#include "bench/lab/prediction/score.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "bench/lab/statistics.h"
#include "engine/model/convergence.h"
#include "engine/model/geometric.h"

namespace godwit {
namespace {

using nlohmann::json;

const json* row_of_strategy(const json& plan, const std::string& strategy) {
    for (const json& row : plan.at("rows"))
        if (row.at("strategy") == strategy) return &row;
    return nullptr;
}

double mid(const json& interval) { return interval.at("mid").get<double>(); }

// The reasons of a switch that the policy gives where the rest fits (convergence.cc).
bool switched_in_time(const std::string& reason) {
    return reason.starts_with("expected downtime") || reason.starts_with("the last set adds");
}

MigrationEnd actual_end(const json& report) {
    MigrationEnd end{.total_ms = report.at("total_ms").get<double>()};
    if (report.at("outcome") != "done") return end;
    end.downtime_ms = report.at("downtime_ms").get<double>();
    end.converged = switched_in_time(report.at("switch_reason").get<std::string>());
    return end;
}

// A plan reckons with --on-no-converge fail. Rounds end at the same moment where the rest is
// copied in the pause instead; only the pause is added (working_set.h).
MigrationEnd foretold_end(const json& row, const std::string& otherwise) {
    MigrationEnd end{.total_ms = mid(row.at("total_ms")),
                     .downtime_ms = mid(row.at("downtime_ms")),
                     .converged = row.at("converges").get<bool>()};
    if (otherwise == "stop-and-copy" && !end.converged) end.total_ms += *end.downtime_ms;
    return end;
}

// Live rounds after which more than `max_data` times the memory was looked at, if each leaves the
// r-th part.
uint32_t rounds_within_data(double r, const ConvergenceLimits& limits) {
    double part = 1;
    double sum = 0;
    uint32_t rounds = 0;
    while (rounds < limits.max_rounds && sum <= limits.max_data) {
        sum += part;
        part *= std::min(r, 1.0);
        ++rounds;
    }
    return rounds;
}

absl::StatusOr<MigrationEnd> geometric_end(const json& plan, const json& row,
                                           const std::string& strategy,
                                           const std::string& otherwise) {
    const json& measured = plan.at("measured");
    const json& costs = measured.at("costs");
    const json& window = measured.at("windows").back();
    GeometricInput input{.memory_bytes = measured.at("touched_bytes").get<double>(),
                         .page_rate = row.at("page_rate_bytes_per_s").get<double>(),
                         .dirty_pages_per_s = window.at("dirty_pages").get<double>() /
                                              window.at("window_ms").get<double>() * 1e3,
                         .downtime_limit_s = plan.at("downtime_limit_ms").get<double>() / 1e3,
                         .fixed_cost_s = costs.at("pause_ms").get<double>() / 1e3};
    const double r = static_cast<double>(kPageBytes) * input.dirty_pages_per_s / input.page_rate;
    input.max_rounds = rounds_within_data(r, {});
    GODWIT_ASSIGN_OR_RETURN(const GeometricForecast forecast, strategy == "precopy"
                                                                  ? geometric_precopy(input)
                                                                  : geometric_non_live(input));
    MigrationEnd end{.total_ms = forecast.total_s * 1e3 + costs.at("setup_ms").get<double>(),
                     .downtime_ms = forecast.downtime_s * 1e3,
                     .converged = forecast.converges};
    if (otherwise == "fail" && !end.converged) end.total_ms -= *end.downtime_ms;
    return end;
}

const MigrationEnd* foretold_by(const CellOutcome& outcome, Foreteller by) {
    if (by == Foreteller::kWorkingSet) return &outcome.working_set;
    return outcome.geometric ? &*outcome.geometric : nullptr;
}

std::optional<double> share(size_t part, size_t rest) {
    if (part + rest == 0) return std::nullopt;
    return static_cast<double>(part) / static_cast<double>(part + rest);
}

}  // namespace

absl::StatusOr<CellOutcome> outcome_of(const json& line) {
    try {
        const json& plan = line.at("plan");
        CellOutcome outcome{.name = line.at("cell").get<std::string>(),
                            .strategy = line.at("strategy").get<std::string>(),
                            .held_out = line.at("held_out").get<bool>(),
                            .actual = actual_end(line.at("report"))};
        const std::string otherwise = line.at("otherwise").get<std::string>();
        outcome.has_rounds = outcome.strategy == "precopy" || outcome.strategy == "hybrid";
        const json* row = row_of_strategy(plan, outcome.strategy);
        if (row == nullptr)
            return absl::InvalidArgumentError(
                fmt::format("{}: the plan says nothing of {}", outcome.name, outcome.strategy));
        outcome.working_set = foretold_end(*row, otherwise);
        if (outcome.strategy == "precopy" || outcome.strategy == "stop-and-copy") {
            GODWIT_ASSIGN_OR_RETURN(outcome.geometric,
                                    geometric_end(plan, *row, outcome.strategy, otherwise));
        }
        return outcome;
    } catch (const json::exception& error) {
        return absl::InvalidArgumentError(
            fmt::format("a line of results is not whole: {}", error.what()));
    }
}

double total_error(const MigrationEnd& foretold, const MigrationEnd& came) {
    return std::abs(foretold.total_ms - came.total_ms) / std::max(came.total_ms, 1e-3);
}

std::optional<double> downtime_error(const MigrationEnd& foretold, const MigrationEnd& came) {
    if (!foretold.downtime_ms || !came.downtime_ms) return std::nullopt;
    return std::abs(*foretold.downtime_ms - *came.downtime_ms) /
           std::max(*came.downtime_ms / 10, kDowntimeTolerance_ms);
}

std::optional<double> PredictionScore::precision() const {
    return share(foretold_and_came, foretold_only);
}

std::optional<double> PredictionScore::recall() const {
    return share(foretold_and_came, came_only);
}

PredictionScore score_of(const std::vector<CellOutcome>& outcomes, Foreteller by) {
    PredictionScore score;
    std::vector<double> totals;
    std::vector<double> downtimes;
    for (const CellOutcome& outcome : outcomes) {
        const MigrationEnd* foretold = foretold_by(outcome, by);
        if (foretold == nullptr) continue;
        const MigrationEnd& came = outcome.actual;
        ++score.runs;
        totals.push_back(total_error(*foretold, came));
        if (const auto error = downtime_error(*foretold, came)) downtimes.push_back(*error);
        if (came.downtime_ms.value_or(0) > kLongDowntime_ms) ++score.long_downtimes;
        if (!outcome.has_rounds) continue;
        if (foretold->converged)
            ++(came.converged ? score.neither : score.came_only);
        else
            ++(came.converged ? score.foretold_only : score.foretold_and_came);
    }
    score.downtimes = downtimes.size();
    score.total_median = median(totals);
    score.total_p90 = quantile(totals, 0.9);
    score.downtime_median = median(downtimes);
    score.downtime_p90 = quantile(downtimes, 0.9);
    return score;
}

}  // namespace godwit
