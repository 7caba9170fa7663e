// One number of a model, for an experiment.
#include <absl/strings/numbers.h>
#include <fmt/format.h>

#include <cmath>

#include "bench/lab/paper/experiment.h"
#include "engine/model/geometric.h"
#include "engine/model/working_set.h"

namespace godwit {
namespace {

// Inputs by name, each of which must be known.
class Inputs {
  public:
    Inputs(const ExperimentSeries& series, double x)
        : series_(series), x_(x), left_(series.input) {}

    double number(const std::string& name, double otherwise) {
        const auto found = left_.find(name);
        if (found == left_.end()) return otherwise;
        double value = 0;
        const absl::StatusOr<std::string> text = fill_in(found->second, x_);
        if (!text.ok())
            status_.Update(text.status());
        else if (!absl::SimpleAtod(*text, &value) || !std::isfinite(value))
            status_.Update(absl::InvalidArgumentError(
                fmt::format("{}: {}: \"{}\" is no number", series_.label, name, *text)));
        left_.erase(found);
        return value;
    }
    std::string text(const std::string& name, const std::string& otherwise) {
        const auto found = left_.find(name);
        if (found == left_.end()) return otherwise;
        std::string value = found->second;
        left_.erase(found);
        return value;
    }
    // Once all were asked for.
    [[nodiscard]] absl::Status status() const {
        if (!status_.ok() || left_.empty()) return status_;
        return absl::InvalidArgumentError(fmt::format("{}: the model {} has no input {}",
                                                      series_.label, series_.model,
                                                      left_.begin()->first));
    }

  private:
    const ExperimentSeries& series_;
    const double x_;
    std::map<std::string, std::string> left_;
    absl::Status status_;
};

absl::StatusOr<double> pick(const ExperimentSeries& series,
                            const std::map<std::string, double>& metrics) {
    const auto found = metrics.find(series.metric);
    if (found != metrics.end()) return found->second;
    return absl::InvalidArgumentError(fmt::format("{}: the model {} has no metric {}", series.label,
                                                  series.model, series.metric));
}

absl::StatusOr<double> geometric_metric(const ExperimentSeries& series, double x) {
    Inputs inputs(series, x);
    const GeometricInput input{
        .memory_bytes = inputs.number("memory_bytes", 1 << 30),
        .page_rate = inputs.number("page_rate", 125e6),
        .dirty_pages_per_s = inputs.number("dirty_pages_per_s", 0),
        .downtime_limit_s = inputs.number("downtime_limit_s", 0.05),
        .fixed_cost_s = inputs.number("fixed_cost_s", 0),
        .max_rounds = static_cast<uint32_t>(inputs.number("max_rounds", 30))};
    const auto m = static_cast<uint32_t>(inputs.number("m", 1));
    GODWIT_RETURN_IF_ERROR(inputs.status());
    GODWIT_ASSIGN_OR_RETURN(const GeometricForecast forecast,
                            series.model == "geometric-serial"     ? geometric_serial(input, m)
                            : series.model == "geometric-parallel" ? geometric_parallel(input, m)
                                                                   : geometric_precopy(input));
    return pick(series, {{"total_s", forecast.total_s},
                         {"downtime_s", forecast.downtime_s},
                         {"page_bytes", forecast.page_bytes},
                         {"rounds", forecast.rounds},
                         {"r", forecast.r}});
}

// U(t) of a writer that takes any page of its set with the same chance.
absl::StatusOr<DirtyCurve> uniform_curve(double set_pages, double writes_per_s, double touched) {
    constexpr int kPoints = 60;
    constexpr double kShortest_s = 1e-3;
    constexpr double kGrowth = 1.25;
    std::vector<DirtyCurve::Point> points;
    double window_s = kShortest_s;
    for (int i = 0; i < kPoints; ++i, window_s *= kGrowth)
        points.push_back({window_s, set_pages * -std::expm1(-writes_per_s * window_s /
                                                            std::max(set_pages, 1.0))});
    return DirtyCurve::through(std::move(points), touched);
}

absl::StatusOr<Strategy> strategy_of(const std::string& word) {
    for (const Strategy strategy :
         {Strategy::kStopAndCopy, Strategy::kPrecopy, Strategy::kPostcopy, Strategy::kHybrid})
        if (strategy_word(strategy) == word) return strategy;
    return absl::InvalidArgumentError(fmt::format("there is no strategy {}", word));
}

absl::StatusOr<double> working_set_metric(const ExperimentSeries& series, double x) {
    Inputs inputs(series, x);
    GODWIT_ASSIGN_OR_RETURN(const Strategy strategy,
                            strategy_of(inputs.text("strategy", "precopy")));
    const double touched = inputs.number("touched_pages", 1 << 18);
    const double set = inputs.number("set_pages", 1 << 16);
    const double writes = inputs.number("writes_per_s", 0);
    WorkingSetInput input{.touched_pages = touched,
                          .page_rate = exactly(inputs.number("page_rate", 125e6)),
                          .fault_share = inputs.number("fault_share", 1),
                          .costs = {.setup_s = inputs.number("setup_s", 0),
                                    .per_round_s = inputs.number("per_round_s", 0),
                                    .pause_s = inputs.number("pause_s", 0),
                                    .fault_s = inputs.number("fault_s", 0)}};
    input.limits.strategy = strategy;
    input.limits.on_no_converge =
        strategy == Strategy::kHybrid ? NoConverge::kPostcopy : NoConverge::kStopAndCopy;
    input.limits.downtime_limit = from_seconds(inputs.number("downtime_limit_s", 0.05));
    GODWIT_RETURN_IF_ERROR(inputs.status());
    GODWIT_ASSIGN_OR_RETURN(const DirtyCurve curve, uniform_curve(set, writes, touched));
    GODWIT_ASSIGN_OR_RETURN(const Forecast forecast,
                            working_set_forecast({curve, curve, curve}, input));
    return pick(series, {{"total_s", forecast.total_s.mid},
                         {"downtime_s", forecast.downtime_s.mid},
                         {"page_bytes", forecast.page_bytes.mid},
                         {"rounds", forecast.rounds},
                         {"faults", forecast.faults.mid}});
}

}  // namespace

absl::StatusOr<double> model_metric(const ExperimentSeries& series, double x) {
    if (series.model == "working-set") return working_set_metric(series, x);
    if (series.model.starts_with("geometric-")) return geometric_metric(series, x);
    return absl::InvalidArgumentError(
        fmt::format("{}: there is no model {}", series.label, series.model));
}

}  // namespace godwit
