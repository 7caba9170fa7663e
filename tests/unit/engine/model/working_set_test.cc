#include "engine/model/working_set.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "engine/model/geometric.h"

namespace godwit {
namespace {

constexpr double kTouched = 1 << 20;  // 4 GiB
constexpr double kRate = 1e9;

DirtyCurves linear(double pages_per_s) {
    const DirtyCurve curve = *DirtyCurve::through({{1, pages_per_s}}, kTouched);
    return {curve, curve, curve};
}

// A working set that is written through within a fraction of a second.
DirtyCurves saturated(double pages) {
    const DirtyCurve curve = *DirtyCurve::through({{0.05, pages}, {10, pages}}, kTouched);
    return {curve, curve, curve};
}

WorkingSetInput input_for(Strategy strategy, NoConverge otherwise = NoConverge::kFail) {
    return {.touched_pages = kTouched,
            .page_rate = exactly(kRate),
            .costs = {.pause_s = 0.01},
            .limits = {.strategy = strategy, .on_no_converge = otherwise, .max_data = 1000}};
}

TEST(WorkingSet, AgreesWithTheGeometricModelWhereNoPageIsWrittenTwice) {
    for (double r = 0; r < 0.85; r += 0.05) {
        const double rate = r * kRate / 4096;
        const auto ours = working_set_forecast(linear(rate), input_for(Strategy::kPrecopy));
        const auto theirs = geometric_precopy({.memory_bytes = kTouched * 4096,
                                               .page_rate = kRate,
                                               .dirty_pages_per_s = rate,
                                               .downtime_limit_s = 0.05,
                                               .fixed_cost_s = 0.01});
        ASSERT_TRUE(ours.ok() && theirs.ok());
        EXPECT_EQ(ours->rounds, theirs->rounds) << r;
        EXPECT_EQ(ours->converges, theirs->converges) << r;
        EXPECT_NEAR(ours->total_s.mid, theirs->total_s, 1e-6 * theirs->total_s) << r;
        EXPECT_NEAR(ours->downtime_s.mid, theirs->downtime_s, 1e-6) << r;
    }
}

// FIELD: rounds of a 6 GiB stress guest stayed at 5.4 GiB, where r = 0.92 predicts decay.
TEST(WorkingSet, KnowsThatASaturatedSetDoesNotDecay) {
    const double set = 5420.0 * 256;
    const DirtyCurve curve = *DirtyCurve::through({{2, set}, {10, set}}, 6 * 262'144.0);
    WorkingSetInput input = input_for(Strategy::kPrecopy);
    input.touched_pages = 6 * 262'144.0;
    input.page_rate = exactly(1.85 * (1 << 30));
    const auto forecast = working_set_forecast({curve, curve, curve}, input);
    EXPECT_FALSE(forecast->converges);
    EXPECT_EQ(forecast->end, NextStep::kGiveUp);
    input.limits.strategy = Strategy::kHybrid;
    input.limits.on_no_converge = NoConverge::kPostcopy;
    const auto hybrid = working_set_forecast({curve, curve, curve}, input);
    EXPECT_EQ(hybrid->end, NextStep::kPostcopy);
    EXPECT_LE(hybrid->rounds, 2u);
    EXPECT_DOUBLE_EQ(hybrid->downtime_s.mid, 0.01);
}

TEST(WorkingSet, PredictsPostCopyWithItsFaults) {
    WorkingSetInput input = input_for(Strategy::kPostcopy);
    input.costs.fault_s = 1e-4;
    const auto forecast = working_set_forecast(saturated(10'000), input);
    EXPECT_DOUBLE_EQ(forecast->downtime_s.mid, 0.01);
    EXPECT_NEAR(forecast->faults.mid, 10'000, 200);  // all of the set, long before the drain ends
    EXPECT_NEAR(forecast->total_s.mid, 0.01 + kTouched * 4096 / kRate + 1.0, 0.05);
    input.fault_share = 0.1;
    EXPECT_NEAR(working_set_forecast(saturated(10'000), input)->faults.mid, 1'000, 20);
}

TEST(WorkingSet, ThrottlesUntilItFits) {
    const auto forecast = working_set_forecast(
        linear(1.1 * kRate / 4096), input_for(Strategy::kPrecopy, NoConverge::kThrottle));
    EXPECT_TRUE(forecast->converges);
    EXPECT_LE(forecast->downtime_s.mid, 0.05 + 1e-9);
}

TEST(WorkingSet, IsSlowerOnASlowerLinkAndWithMoreWrites) {
    double before = std::numeric_limits<double>::infinity();
    for (double rate = 1e8; rate < 1e10; rate *= 1.3) {
        WorkingSetInput input = input_for(Strategy::kPostcopy);
        input.page_rate = exactly(rate);
        const auto forecast = working_set_forecast(saturated(10'000), input);
        EXPECT_LT(forecast->total_s.mid, before);
        before = forecast->total_s.mid;
    }
    const DirtyCurve slow = *DirtyCurve::through({{1, 1000}}, kTouched);
    const DirtyCurve fast = *DirtyCurve::through({{1, 90'000}}, kTouched);
    const auto forecast = working_set_forecast({slow, slow, fast}, input_for(Strategy::kPrecopy));
    EXPECT_LE(forecast->total_s.low, forecast->total_s.mid);
    EXPECT_LT(forecast->total_s.mid, forecast->total_s.high);
}

TEST(WorkingSet, NeverSaysNaNOrInfinity) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    for (const double bad : {0.0, -1.0, nan, 1e300}) {
        WorkingSetInput input = input_for(Strategy::kPrecopy);
        input.page_rate = exactly(bad);
        EXPECT_EQ(working_set_forecast(linear(1), input).status().code(),
                  absl::StatusCode::kInvalidArgument);
    }
    for (const Strategy strategy :
         {Strategy::kStopAndCopy, Strategy::kPrecopy, Strategy::kPostcopy, Strategy::kHybrid}) {
        for (const double touched : {0.0, 1.0, kTouched}) {
            WorkingSetInput input = input_for(strategy, NoConverge::kPostcopy);
            input.touched_pages = touched;
            input.wire_share = 0;
            const auto forecast = working_set_forecast(linear(1e12), input);
            ASSERT_TRUE(forecast.ok()) << forecast.status();
            for (const Interval& of : {forecast->total_s, forecast->downtime_s, forecast->faults,
                                       forecast->page_bytes, forecast->wire_bytes, forecast->cpu_s})
                EXPECT_TRUE(std::isfinite(of.low) && std::isfinite(of.mid) &&
                            std::isfinite(of.high));
        }
    }
}

// --- under way ----------------------------------------------------------------------------------

RoundsSoFar after_round_0(double rest_pages, NextStep step) {
    return {.rounds = 1,
            .elapsed_s = 5,
            .pages = kTouched,
            .rest_pages = rest_pages,
            .decision = {.step = step, .reason = "as decided"}};
}

TEST(RenewedForecast, OfAMigrationThatWentAsForeseenIsTheFirstOne) {
    const DirtyCurves curves = linear(0.3 * kRate / 4096);
    const WorkingSetInput input = input_for(Strategy::kPrecopy);
    const auto first = working_set_forecast(curves, input);
    const double round_0_s = kTouched * 4096 / kRate;
    RoundsSoFar so_far = after_round_0(curves.mid.pages(round_0_s), NextStep::kRound);
    so_far.elapsed_s = round_0_s;
    const auto renewed = renewed_forecast(curves, input, so_far);
    ASSERT_TRUE(first.ok() && renewed.ok());
    EXPECT_EQ(renewed->rounds, first->rounds);
    EXPECT_NEAR(renewed->total_s.mid, first->total_s.mid, 1e-9);
    EXPECT_NEAR(renewed->downtime_s.mid, first->downtime_s.mid, 1e-9);
    EXPECT_NEAR(renewed->page_bytes.mid, first->page_bytes.mid, 1);
    EXPECT_EQ(renewed->rest_pages, first->rest_pages);
}

TEST(RenewedForecast, OfADecisionToSwitchIsThePauseAlone) {
    const auto forecast = renewed_forecast(saturated(1000), input_for(Strategy::kPrecopy),
                                           after_round_0(1000, NextStep::kSwitch));
    ASSERT_TRUE(forecast.ok());
    EXPECT_TRUE(forecast->converges);
    EXPECT_EQ(forecast->rounds, 1u);
    EXPECT_EQ(forecast->rest_pages, exactly(1000));
    EXPECT_NEAR(forecast->downtime_s.mid, 0.01 + 1000 * 4096 / kRate, 1e-9);
    EXPECT_NEAR(forecast->total_s.mid, 5 + forecast->downtime_s.mid, 1e-9);
    EXPECT_EQ(forecast->reason, "as decided");
}

TEST(RenewedForecast, OfAPostCopySwitchDoesNotPauseForTheRest) {
    const auto forecast = renewed_forecast(saturated(200'000), input_for(Strategy::kHybrid),
                                           after_round_0(200'000, NextStep::kPostcopy));
    ASSERT_TRUE(forecast.ok());
    EXPECT_NEAR(forecast->downtime_s.mid, 0.01, 1e-9);
    EXPECT_NEAR(forecast->total_s.mid, 5.01 + 200'000 * 4096 / kRate, 1e-9);
    EXPECT_GT(forecast->faults.mid, 0);
}

TEST(RenewedForecast, OfAGuestThatIsHeldBackGoesOnFromThere) {
    // 90 % of the rate: hopeless for a free guest, but not for one that is held back.
    const DirtyCurves curves = linear(0.9 * kRate / 4096);
    const WorkingSetInput input = input_for(Strategy::kPrecopy, NoConverge::kThrottle);
    RoundsSoFar so_far = after_round_0(0.5 * kTouched, NextStep::kThrottle);
    const auto free = renewed_forecast(curves, input, so_far);
    so_far.throttle_percent = 80;
    const auto held = renewed_forecast(curves, input, so_far);
    ASSERT_TRUE(free.ok() && held.ok());
    EXPECT_LT(held->rounds, free->rounds);
}

TEST(RenewedForecast, RefusesWhatCanNotBe) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    const WorkingSetInput input = input_for(Strategy::kPrecopy);
    for (double RoundsSoFar::*field :
         {&RoundsSoFar::elapsed_s, &RoundsSoFar::pages, &RoundsSoFar::rest_pages})
        for (const double absurd : {kNan, -1.0, 1e300}) {
            RoundsSoFar so_far = after_round_0(1000, NextStep::kRound);
            so_far.*field = absurd;
            EXPECT_FALSE(renewed_forecast(saturated(1000), input, so_far).ok()) << absurd;
        }
    RoundsSoFar none = after_round_0(1000, NextStep::kRound);
    none.rounds = 0;
    EXPECT_FALSE(renewed_forecast(saturated(1000), input, none).ok());
}

}  // namespace
}  // namespace godwit
