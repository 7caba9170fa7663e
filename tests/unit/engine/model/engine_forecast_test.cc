// The working-set model with what the engine does beside its formulas.
#include <gtest/gtest.h>

#include "engine/model/working_set.h"

namespace godwit {
namespace {

constexpr double kForecastPages = 100'000;
constexpr double kPagesPerS = 100'000;  // so that round 0 takes a second

DirtyCurves steady(double pages_per_s) {
    const DirtyCurve curve =
        *DirtyCurve::through({{.window_s = 1, .pages = pages_per_s}}, kForecastPages);
    return {curve, curve, curve};
}

WorkingSetInput input(Strategy strategy, double limit_s) {
    WorkingSetInput made{.touched_pages = kForecastPages,
                         .page_rate = exactly(kPagesPerS * kPageBytes),
                         .costs = {.setup_s = 0.704, .pause_s = 0.01}};
    made.limits.strategy = strategy;
    made.limits.downtime_limit = from_seconds(limit_s);
    if (strategy == Strategy::kHybrid) made.limits.on_no_converge = NoConverge::kPostcopy;
    return made;
}

TEST(EngineForecast, OfAnIdleGuestIsTheWorkingSetModels) {
    const WorkingSetInput idle = input(Strategy::kPrecopy, 0.05);
    const auto ours = engine_forecast(steady(0), idle);
    const auto theirs = working_set_forecast(steady(0), idle);
    ASSERT_TRUE(ours.ok()) << ours.status();
    EXPECT_EQ(ours->total_s, theirs->total_s);
    EXPECT_EQ(ours->downtime_s, theirs->downtime_s);
    EXPECT_EQ(ours->wire_bytes, theirs->wire_bytes);
}

TEST(EngineForecast, HalfOfWhatIsWrittenEvenlyInRound0IsThereAlready) {
    // 300 ms hold what the second round leaves, not the 50,000 of the first.
    WorkingSetInput slow = input(Strategy::kPrecopy, 0.31);
    slow.costs.setup_s = 0.88;
    const auto forecast = engine_forecast(steady(50'000), slow);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->rounds, 2U);
    EXPECT_TRUE(forecast->converges);
    // All of round 0, 50,000 looked at of which 25,000 are sent. 80 % of what was written in these
    // 0.25 s was read; of 15,400 pages in the 0.308 s to the stop 0.8 · 9,150 + 0.2 · 15,400 are
    // new.
    EXPECT_NEAR(forecast->rest_pages.mid, 10'400, 1);
    EXPECT_NEAR(forecast->downtime_s.mid, 0.01 + 0.104, 1e-4);
    EXPECT_NEAR(forecast->wire_bytes.mid, 135'400 * double{kPageBytes}, 1e5);
    EXPECT_NEAR(forecast->page_bytes.mid, 160'400 * double{kPageBytes}, 1e5);
    EXPECT_NEAR(forecast->total_s.mid, 0.88 + 1 + 0.25 + 0.114, 1e-3);
}

TEST(EngineForecast, LaterRoundsSeeNoMoreThanTheySendWhereTheyRearm) {
    WorkingSetInput rearmed = input(Strategy::kPrecopy, 0.08);
    rearmed.rearms_as_read = true;
    rearmed.costs.setup_s = 7.04;  // what is written in the freeze is no afterthought
    const auto forecast = engine_forecast(steady(50'000), rearmed);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->rounds, 3U);
    EXPECT_TRUE(forecast->converges);
    // 100,000 + 50,000 + 0.8 · 6,250 + 0.2 · 12,500 = 7,500 pages, and what is left after these.
    EXPECT_NEAR(forecast->page_bytes.mid / kPageBytes - forecast->rest_pages.mid, 157'500, 1);
    // Armed before the round they are dirty, new or not.
    rearmed.rearms_as_read = false;
    const auto armed_before = engine_forecast(steady(50'000), rearmed);
    ASSERT_TRUE(armed_before.ok()) << armed_before.status();
    EXPECT_EQ(armed_before->rounds, 3U);
    EXPECT_NEAR(armed_before->page_bytes.mid / kPageBytes - armed_before->rest_pages.mid, 162'500,
                1);
}

TEST(EngineForecast, ReadsAheadOfLaterRoundsWhatTheyHaveOfAChunk) {
    WorkingSetInput chunks = input(Strategy::kPrecopy, 0.1);
    chunks.costs.setup_s = 7.04;
    chunks.read_ahead_chunks = 20'000.0 / kPagesPerChunk;
    const auto ahead = [&] { return engine_forecast(steady(20'000), chunks)->rest_pages.mid; };
    // A chunk of round 1 has a few pages where all chunks were written to, and most of them where
    // few were: then nearly all of the round is read as it begins.
    const double scattered = ahead();
    chunks.spread.span_pages = 20'000;
    EXPECT_GT(ahead(), scattered);
}

TEST(EngineForecast, WhatWasReadAheadIsSentAgain) {
    WorkingSetInput buffered = input(Strategy::kPrecopy, 0.4);
    buffered.read_ahead_pages = 20'000;
    const auto forecast = engine_forecast(steady(50'000), buffered);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->rounds, 2U);
    // A fifth was read as round 0 began, the rest on average 0.6 s before its end: of 50,000 pages
    // 0.2 + 0.8 · 0.6 are sent.
    EXPECT_NEAR(forecast->total_s.mid - forecast->downtime_s.mid, 0.704 + 1 + 0.34, 1e-3);
    // All that a small round reads is read as it begins.
    buffered.read_ahead_pages = 100'000;
    const auto all = engine_forecast(steady(50'000), buffered);
    ASSERT_TRUE(all.ok()) << all.status();
    EXPECT_NEAR(all->total_s.mid - all->downtime_s.mid, 0.704 + 1 + 0.5, 1e-3);
}

TEST(EngineForecast, WhatTheGuestWritesIsNotZero) {
    WorkingSetInput half_empty = input(Strategy::kPrecopy, 0.4);
    half_empty.read_ahead_pages = 100'000;
    half_empty.wire_share = 0.5;
    half_empty.zero_share = 0.5;
    // Round 1 sends 20,000 pages in 0.4 s instead of 0.2, and leaves 8,000 and those of 47 ms.
    half_empty.limits.downtime_limit = from_seconds(0.25);
    const auto forecast = engine_forecast(steady(20'000), half_empty);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->rounds, 2U);
    EXPECT_NEAR(forecast->downtime_s.mid, 0.01 + 0.1788, 1e-3);
    EXPECT_NEAR(forecast->total_s.mid, 0.704 + 1 + 0.4 + 0.1888, 1e-3);
    EXPECT_NEAR(forecast->wire_bytes.mid, (50'000 + 20'000 + 8'940) * double{kPageBytes}, 1e5);
    // A guest whose RAM was all zero is not waited for without end.
    half_empty.zero_share = 1;
    EXPECT_TRUE(engine_forecast(steady(20'000), half_empty).ok());
}

TEST(EngineForecast, ASmallRestIsSentWhileTheFreezeIsPrepared) {
    const auto forecast = engine_forecast(steady(20'000), input(Strategy::kPrecopy, 0.02));
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    // What 44 ms bring is 880 pages, 9 ms; these bring 176, and so on.
    // The last catch-up of 35 pages, and the 3 ms to the stop.
    EXPECT_NEAR(forecast->rest_pages.mid, 68.7, 0.1);
    EXPECT_LT(forecast->downtime_s.mid, 0.0108);
    const auto plain = working_set_forecast(steady(20'000), input(Strategy::kPrecopy, 0.02));
    EXPECT_GT(plain->downtime_s.mid, 0.012);
}

TEST(EngineForecast, WhatIsSmallAtTheRateOfTheFastestRoundIsSentBeforeThePause) {
    // Round 1 looks at 35,000 pages of which it sends 17,500: at twice the link's rate. What it
    // leaves takes 67 ms, but 34 at that rate.
    WorkingSetInput quick = input(Strategy::kPrecopy, 0.06);
    quick.costs.setup_s = 1.6;
    quick.rearms_as_read = true;
    const auto forecast = engine_forecast(steady(35'000), quick);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->rounds, 2U);
    EXPECT_LT(forecast->rest_pages.mid, 1200);
    // What nearly half a second brings is no afterthought.
    quick.costs.setup_s = 7.04;
    const auto slow = engine_forecast(steady(35'000), quick);
    ASSERT_TRUE(slow.ok()) << slow.status();
    EXPECT_GT(slow->rest_pages.mid, 4000);
}

TEST(EngineForecast, AGuestThatNeverRestsWritesAgainAtOnceWhatItHasWritten) {
    // It comes by all of 40,000 pages in half a second, and by those that are dirty in a third of
    // it.
    const DirtyCurve curve = *DirtyCurve::through(
        {{.window_s = 0.5, .pages = 40'000}, {.window_s = 5, .pages = 40'000}}, kForecastPages);
    WorkingSetInput restless = input(Strategy::kPrecopy, 0.4);
    const auto resting = engine_forecast({curve, curve, curve}, restless);
    restless.first_write_s = 1;
    const auto forecast = engine_forecast({curve, curve, curve}, restless);
    ASSERT_TRUE(resting.ok() && forecast.ok());
    EXPECT_EQ(resting->rounds, 2U);
    EXPECT_EQ(forecast->rounds, 2U);
    // s(t) = t/3 up to 0.5 s and t - 1/3 s then; 40,000 pages in 1/6 s. Of round 0, a second, all
    // is new that was read until 5/6 s, and half of the rest: 11/12; of a resting guest 3/4.
    const auto live_pages = [](const Forecast& of) {
        return of.wire_bytes.mid / kPageBytes - of.rest_pages.mid;
    };
    EXPECT_NEAR(live_pages(*resting), 130'000, 1);
    EXPECT_NEAR(live_pages(*forecast), 136'667, 50);
    // Round 1, of 0.367 s: all that was read but in its last sixth of a second, and half of that.
    EXPECT_GT(forecast->rest_pages.mid, 1.8 * resting->rest_pages.mid);
    // A set that it does not come by twice is as new as with time to spare.
    const auto wide = steady(50'000);
    const auto once = engine_forecast(wide, restless);
    restless.first_write_s = 0;
    EXPECT_NEAR(once->total_s.mid, engine_forecast(wide, restless)->total_s.mid,
                0.15 * once->total_s.mid);
}

TEST(EngineForecast, WhatFollowsInPostCopyIsAllThatWasWritten) {
    const auto forecast = engine_forecast(steady(90'000), input(Strategy::kHybrid, 0.05));
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->end, NextStep::kPostcopy);
    // In round 0, and until the stop 61 ms later.
    EXPECT_EQ(forecast->rounds, 1U);
    EXPECT_NEAR(forecast->rest_pages.mid, 95'491, 1);
    EXPECT_NEAR(forecast->downtime_s.mid, 0.01, 1e-9);
}

TEST(EngineForecast, ChunksOfHugePagesThatAreDroppedWholeFollowToo) {
    // The first round leaves a tenth, and may be the only one.
    WorkingSetInput hybrid = input(Strategy::kHybrid, 0.02);
    hybrid.limits.max_rounds = 1;
    const auto small = engine_forecast(steady(10'000), hybrid);
    hybrid.backing = Backing::kTmpfsHuge;
    const auto huge = engine_forecast(steady(10'000), hybrid);
    ASSERT_TRUE(small.ok() && huge.ok());
    ASSERT_EQ(huge->end, NextStep::kPostcopy);
    EXPECT_EQ(huge->rest_pages, small->rest_pages);
    EXPECT_EQ(huge->downtime_s, small->downtime_s);
    // Nearly all are dropped, and come at 100,000 a second.
    const double good = kForecastPages - small->rest_pages.mid;
    EXPECT_NEAR(huge->total_s.mid - small->total_s.mid, good / kPagesPerS, 0.01);
    EXPECT_NEAR(huge->page_bytes.mid - small->page_bytes.mid, good * kPageBytes,
                0.01 * kForecastPages * kPageBytes);
    EXPECT_NEAR(huge->wire_bytes.mid - small->wire_bytes.mid, good * kPageBytes,
                0.01 * kForecastPages * kPageBytes);
    EXPECT_GT(huge->faults.mid, small->faults.mid);
    EXPECT_LE(huge->faults.mid, kForecastPages);
    // A guest that writes page after page has few runs.
    hybrid.spread.clump_pages = 5'000;
    const auto in_order = engine_forecast(steady(10'000), hybrid);
    ASSERT_TRUE(in_order.ok());
    EXPECT_NEAR(in_order->total_s.mid, small->total_s.mid, 0.005);
}

TEST(EngineForecast, NothingIsDroppedWhereNothingFollowsOrNothingHasCome) {
    for (const Strategy strategy :
         {Strategy::kPrecopy, Strategy::kPostcopy, Strategy::kStopAndCopy}) {
        WorkingSetInput of = input(strategy, 0.4);
        const auto small = engine_forecast(steady(20'000), of);
        of.backing = Backing::kTmpfsHuge;
        const auto huge = engine_forecast(steady(20'000), of);
        ASSERT_TRUE(small.ok() && huge.ok());
        EXPECT_EQ(huge->total_s, small->total_s);
        EXPECT_EQ(huge->page_bytes, small->page_bytes);
    }
}

TEST(EngineForecast, WhatAHybridWritesInItsLastMomentFollowsIfItIsMuch) {
    // Its rounds converge. Of 3,480 pages until the look 35 ms are sent before the pause, in which
    // 2,088 are written, and 180 until the stop.
    const auto much = engine_forecast(steady(60'000), input(Strategy::kHybrid, 0.05));
    ASSERT_TRUE(much.ok()) << much.status();
    EXPECT_TRUE(much->converges);
    EXPECT_GT(much->rest_pages.mid, 2000);
    EXPECT_NEAR(much->downtime_s.mid, 0.01, 1e-9);
    EXPECT_GT(much->faults.mid, 0);
    const auto little = engine_forecast(steady(20'000), input(Strategy::kHybrid, 0.05));
    ASSERT_TRUE(little.ok()) << little.status();
    EXPECT_TRUE(little->converges);
    EXPECT_LT(little->rest_pages.mid, 100);
    EXPECT_GT(little->downtime_s.mid, 0.01);
    EXPECT_LT(little->downtime_s.mid, 0.011);
    EXPECT_EQ(little->faults.mid, 0);
}

TEST(EngineForecast, FaultsCostTheGuestTimeAndTheMigrationNone) {
    WorkingSetInput faulting = input(Strategy::kPostcopy, 0.05);
    faulting.costs.fault_s = 1e-3;
    const auto forecast = engine_forecast(steady(20'000), faulting);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_NEAR(forecast->faults.mid, 10'000, 1);
    EXPECT_NEAR(forecast->total_s.mid, 0.704 + 0.01 + 1, 1e-9);
    EXPECT_NEAR(working_set_forecast(steady(20'000), faulting)->total_s.mid, 11.714, 1e-3);
}

TEST(EngineForecast, GivesUpWhereTheLimitsSaySo) {
    const auto forecast = engine_forecast(steady(2e6), input(Strategy::kPrecopy, 0.05));
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->end, NextStep::kGiveUp);
    EXPECT_FALSE(forecast->converges);
    EXPECT_EQ(forecast->rounds, 4U);
    // Everything is written again in each round, but for what a round reads in its last 50 ms.
    EXPECT_NEAR(forecast->total_s.mid, 0.704 + 1 + 3 * 0.975, 3e-3);
    EXPECT_NEAR(forecast->downtime_s.mid, 1.01, 3e-3);
}

TEST(EngineForecast, ThePauseOfOneThatGivesUpIsWhatItWouldBe) {
    WorkingSetInput flat = input(Strategy::kPrecopy, 0.05);
    const auto forecast = engine_forecast(steady(100'000), flat);
    ASSERT_TRUE(forecast.ok()) << forecast.status();
    EXPECT_EQ(forecast->end, NextStep::kGiveUp);
    flat.limits.on_no_converge = NoConverge::kStopAndCopy;
    const auto copied = engine_forecast(steady(100'000), flat);
    ASSERT_TRUE(copied.ok()) << copied.status();
    EXPECT_GT(forecast->downtime_s.mid, 0.05);
    EXPECT_EQ(forecast->downtime_s.mid, copied->downtime_s.mid);
    EXPECT_NEAR(copied->total_s.mid - forecast->total_s.mid, copied->downtime_s.mid, 1e-9);
}

TEST(EngineForecast, RefusesAbsurdNumbers) {
    WorkingSetInput odd = input(Strategy::kHybrid, 0.05);
    odd.spread.clump_pages = 0;
    EXPECT_TRUE(absl::IsInvalidArgument(engine_forecast(steady(10), odd).status()));
    odd.spread = {.span_pages = -1};
    EXPECT_TRUE(absl::IsInvalidArgument(engine_forecast(steady(10), odd).status()));
    WorkingSetInput absurd = input(Strategy::kPrecopy, 0.05);
    absurd.page_rate = exactly(0);
    EXPECT_TRUE(absl::IsInvalidArgument(engine_forecast(steady(1), absurd).status()));
    absurd = input(Strategy::kPrecopy, 0.05);
    absurd.zero_share = 1.1;
    EXPECT_TRUE(absl::IsInvalidArgument(engine_forecast(steady(1), absurd).status()));
    absurd.zero_share = 0;
    absurd.read_ahead_pages = -1;
    EXPECT_TRUE(absl::IsInvalidArgument(engine_forecast(steady(1), absurd).status()));
}

}  // namespace
}  // namespace godwit
