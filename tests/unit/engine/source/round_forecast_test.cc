#include "engine/source/round_forecast.h"

#include <gtest/gtest.h>

#include <cmath>

namespace godwit {
namespace {

constexpr uint64_t kTouchedPages = 1 << 18;  // 1 GiB

RoundForecaster::Round round_of(uint32_t rounds_done, uint64_t sent, uint64_t dirty, double seconds,
                                double rate, NextStep step) {
    return {.seen = {.rounds_done = rounds_done,
                     .duration = from_seconds(seconds),
                     .round_pages = sent,
                     .dirty_pages = dirty,
                     .unsettled_pages = dirty,
                     .page_rate = rate,
                     .check_rate = rate,
                     .total_page_bytes = (kTouchedPages + sent) * kPageBytes,
                     .touched = kTouchedPages * kPageBytes,
                     .fixed_cost = std::chrono::milliseconds(10)},
            .decision = {.step = step, .reason = "as decided"},
            .elapsed_s = 12,
            .sent_bytes = kTouchedPages * kPageBytes / 2};
}

TEST(RoundForecast, LearnsFromRoundsOfOtherLengths) {
    RoundForecaster forecaster({.strategy = Strategy::kPrecopy, .max_data = 100});
    // A hot set of 20,000 pages: after round 0 it looks like a slow writer.
    const auto first =
        forecaster.renew(round_of(1, kTouchedPages, 20'000, 10, 1e8, NextStep::kRound));
    ASSERT_TRUE(first);
    EXPECT_TRUE(first->converges);
    // It was written again in no time, so it will be again.
    const auto second = forecaster.renew(round_of(2, 20'000, 20'000, 0.8, 1e8, NextStep::kRound));
    ASSERT_TRUE(second);
    EXPECT_FALSE(second->converges);
    EXPECT_EQ(second->end, NextStep::kGiveUp);
    EXPECT_EQ(second->rest_pages.mid, 20'000);
}

TEST(RoundForecast, SaysNothingWhereNoRateIsKnown) {
    RoundForecaster forecaster({});
    EXPECT_FALSE(forecaster.renew(round_of(1, 0, 0, 0, 0, NextStep::kRound)));
    EXPECT_TRUE(forecaster.renew(round_of(2, 100, 10, 0.1, 1e8, NextStep::kSwitch)));
}

TEST(RoundForecast, OfAnIdleGuestIsFinite) {
    RoundForecaster forecaster({.strategy = Strategy::kPrecopy});
    const auto forecast =
        forecaster.renew(round_of(1, kTouchedPages, 0, 0, 1e9, NextStep::kSwitch));
    ASSERT_TRUE(forecast);
    const v1::RoundForecast made = in_proto(*forecast);
    EXPECT_EQ(made.rest_pages().mid(), 0);
    EXPECT_DOUBLE_EQ(made.downtime_ms().high(), 10);
    EXPECT_DOUBLE_EQ(made.total_ms().mid(), 12'010);
    const v1::Prediction prediction = as_prediction(*forecast, "round 0");
    EXPECT_EQ(prediction.predicted_by(), "round 0");
    EXPECT_TRUE(std::isfinite(prediction.wire_bytes().high()));
}

}  // namespace
}  // namespace godwit
