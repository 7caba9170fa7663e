#include "engine/model/working_set.h"

#include <algorithm>

#include "engine/base/units.h"

namespace godwit {
namespace {

constexpr double kPage = static_cast<double>(kPageBytes);
constexpr uint32_t kThrottleStep_percent = 20;
constexpr uint32_t kMostThrottle_percent = 99;

// One run through the model, with one curve and one rate.
struct ModelRun {
    Decision decision;
    uint32_t rounds = 0;
    double total_s = 0;
    double downtime_s = 0;
    double pages = 0;
    double rest = 0;
    double faults = 0;
};

absl::Status check_working_set(const WorkingSetInput& input) {
    GODWIT_RETURN_IF_ERROR(
        check_range("number of touched pages", input.touched_pages, 0, kMostPages));
    for (const double rate : {input.page_rate.low, input.page_rate.mid, input.page_rate.high})
        GODWIT_RETURN_IF_ERROR(
            check_range("page rate in bytes per second", rate, kLeastRate, kMostRate));
    GODWIT_RETURN_IF_ERROR(check_range("wire bytes per page byte", input.wire_share, 0, 2));
    GODWIT_RETURN_IF_ERROR(check_range("share of skipped pages", input.skipped_share, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("share of faults", input.fault_share, 0, 1));
    const MigrationCosts& costs = input.costs;
    for (const double cost : {costs.setup_s, costs.per_round_s, costs.pause_s, costs.fault_s})
        GODWIT_RETURN_IF_ERROR(check_range("fixed cost in seconds", cost, 0, kLongestTime_s));
    for (const double cost : {costs.cpu_s_per_page_byte, costs.cpu_s_per_wire_byte})
        GODWIT_RETURN_IF_ERROR(check_range("CPU time per byte in seconds", cost, 0, 1));
    GODWIT_RETURN_IF_ERROR(check_range("downtime limit in seconds",
                                       to_seconds(input.limits.downtime_limit), 0, kLongestTime_s));
    return check_range("number of rounds", input.limits.max_rounds, 1, kMostRoundsModelled);
}

RoundObservation observation(const WorkingSetInput& input, const ModelRun& run, double round_s,
                             double sent, double dirty, double rate) {
    return {.rounds_done = run.rounds,
            .duration = from_seconds(round_s),
            .round_pages = static_cast<uint64_t>(sent + 0.5),
            .dirty_pages = static_cast<uint64_t>(dirty + 0.5),
            .unsettled_pages = static_cast<uint64_t>(dirty + 0.5),
            .page_rate = rate,
            .check_rate = rate,
            .total_page_bytes = static_cast<Bytes>(run.pages * kPage),
            .touched = static_cast<Bytes>(input.touched_pages * kPage),
            .fixed_cost = from_seconds(input.costs.pause_s)};
}

// Live rounds, of which the first sends `sent` pages; returns the rest.
double model_rounds(const DirtyCurve& curve, double rate, const WorkingSetInput& input, double sent,
                    uint32_t throttle_percent, ModelRun& run) {
    while (true) {
        const double round_s = sent * kPage / rate + input.costs.per_round_s;
        run.total_s += round_s;
        run.pages += sent;
        ++run.rounds;
        const double own_s = round_s * (100 - throttle_percent) / 100;
        const double dirty =
            std::min((1 - input.skipped_share) * curve.pages(own_s), input.touched_pages);
        run.decision = decide(observation(input, run, round_s, sent, dirty, rate), input.limits);
        if (run.decision.step == NextStep::kThrottle)
            throttle_percent = next_throttle_percent(throttle_percent);
        else if (run.decision.step != NextStep::kRound &&
                 run.decision.step != NextStep::kSettlingRound)
            return dirty;
        sent = dirty;
    }
}

// The pause and what comes after it, with `rest` pages left.
void model_end(const DirtyCurve& curve, double rate, const WorkingSetInput& input, double rest,
               ModelRun& run) {
    run.rest = rest;
    const double rest_s = rest * kPage / rate;
    const bool follows = run.decision.step == NextStep::kPostcopy;
    run.downtime_s = input.costs.pause_s + (follows ? 0 : rest_s);
    if (follows && input.touched_pages > 0)
        run.faults = std::min(
            rest, input.fault_share * (rest / input.touched_pages) * curve.mean_pages(rest_s));
    if (run.decision.step == NextStep::kGiveUp) return;
    run.pages += rest;
    run.total_s += input.costs.pause_s + rest_s + run.faults * input.costs.fault_s;
}

ModelRun run_model(const DirtyCurve& curve, double rate, const WorkingSetInput& input) {
    ModelRun run{.total_s = input.costs.setup_s};
    double rest = input.touched_pages;
    switch (input.limits.strategy) {
        case Strategy::kStopAndCopy:
            run.decision = {.step = NextStep::kStopAndCopy, .reason = "no live round"};
            break;
        case Strategy::kPostcopy:
            run.decision = {.step = NextStep::kPostcopy, .reason = "no live round"};
            break;
        case Strategy::kPrecopy:
        case Strategy::kHybrid:
            rest = model_rounds(curve, rate, input, rest, 0, run);
            break;
    }
    model_end(curve, rate, input, rest, run);
    return run;
}

ModelRun resume_model(const DirtyCurve& curve, double rate, const WorkingSetInput& input,
                      const RoundsSoFar& so_far) {
    ModelRun run{.decision = so_far.decision,
                 .rounds = so_far.rounds,
                 .total_s = so_far.elapsed_s,
                 .pages = so_far.pages};
    double rest = so_far.rest_pages;
    const NextStep step = so_far.decision.step;
    const uint32_t throttle_percent = step == NextStep::kThrottle
                                          ? next_throttle_percent(so_far.throttle_percent)
                                          : so_far.throttle_percent;
    if (step == NextStep::kRound || step == NextStep::kSettlingRound || step == NextStep::kThrottle)
        rest = model_rounds(curve, rate, input, rest, throttle_percent, run);
    model_end(curve, rate, input, rest, run);
    return run;
}

Interval spread(double best, double expected, double worst) {
    return {.low = std::min({best, expected, worst}),
            .mid = expected,
            .high = std::max({best, expected, worst})};
}

Forecast forecast_of(const WorkingSetInput& input, const ModelRun& best, const ModelRun& mid,
                     const ModelRun& worst) {
    Forecast forecast{.strategy = input.limits.strategy,
                      .end = mid.decision.step,
                      .rounds = mid.rounds,
                      .rest_pages = spread(best.rest, mid.rest, worst.rest),
                      .total_s = spread(best.total_s, mid.total_s, worst.total_s),
                      .downtime_s = spread(best.downtime_s, mid.downtime_s, worst.downtime_s),
                      .faults = spread(best.faults, mid.faults, worst.faults),
                      .reason = mid.decision.reason};
    forecast.converges = mid.decision.step == NextStep::kSwitch;
    const Interval pages = spread(best.pages, mid.pages, worst.pages);
    const MigrationCosts& costs = input.costs;
    const auto scaled = [](const Interval& of, double by) {
        return Interval{.low = of.low * by, .mid = of.mid * by, .high = of.high * by};
    };
    forecast.page_bytes = scaled(pages, kPage);
    forecast.wire_bytes = scaled(pages, kPage * input.wire_share);
    forecast.cpu_s = scaled(
        pages, kPage * (costs.cpu_s_per_page_byte + input.wire_share * costs.cpu_s_per_wire_byte));
    return forecast;
}

}  // namespace

absl::StatusOr<Forecast> working_set_forecast(const DirtyCurves& curves,
                                              const WorkingSetInput& input) {
    GODWIT_RETURN_IF_ERROR(check_working_set(input));
    return forecast_of(input, run_model(curves.low, input.page_rate.high, input),
                       run_model(curves.mid, input.page_rate.mid, input),
                       run_model(curves.high, input.page_rate.low, input));
}

absl::StatusOr<Forecast> renewed_forecast(const DirtyCurves& curves, const WorkingSetInput& input,
                                          const RoundsSoFar& so_far) {
    GODWIT_RETURN_IF_ERROR(check_working_set(input));
    GODWIT_RETURN_IF_ERROR(
        check_range("number of rounds so far", so_far.rounds, 1, kMostRoundsModelled));
    GODWIT_RETURN_IF_ERROR(
        check_range("time so far in seconds", so_far.elapsed_s, 0, kLongestTime_s));
    for (const double pages : {so_far.pages, so_far.rest_pages})
        GODWIT_RETURN_IF_ERROR(check_range("number of pages so far", pages, 0, kMostPages));
    GODWIT_RETURN_IF_ERROR(
        check_range("throttle in percent", so_far.throttle_percent, 0, kMostThrottle_percent));
    return forecast_of(input, resume_model(curves.low, input.page_rate.high, input, so_far),
                       resume_model(curves.mid, input.page_rate.mid, input, so_far),
                       resume_model(curves.high, input.page_rate.low, input, so_far));
}

uint32_t next_throttle_percent(uint32_t percent) {
    return std::min(percent + kThrottleStep_percent, kMostThrottle_percent);
}

}  // namespace godwit
