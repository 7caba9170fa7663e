#include "engine/model/convergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <string>

namespace godwit {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;

constexpr double kPageRate = 409.6e6;  // 100 pages per ms
constexpr Bytes kTouched = Bytes{1} << 30;

// One second in which 100,000 pages per second were sent and `dirty` pages were written.
RoundObservation after_a_round(uint64_t dirty, uint64_t only_unsettled = 0) {
    return {.rounds_done = 1,
            .duration = seconds(1),
            .dirty_pages = dirty,
            .unsettled_pages = dirty + only_unsettled,
            .page_rate = kPageRate,
            .check_rate = 10 * kPageRate,
            .total_page_bytes = kTouched,
            .touched = kTouched,
            .fixed_cost = milliseconds(10)};
}

constexpr ConvergenceLimits kLimits{.downtime_limit = milliseconds(50)};

struct Case {
    const char* name;
    RoundObservation seen;
    ConvergenceLimits limits;
    NextStep step;
    const char* reason;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

RoundObservation with(RoundObservation seen, const std::function<void(RoundObservation&)>& change) {
    change(seen);
    return seen;
}

class Convergence : public ::testing::TestWithParam<Case> {};

TEST_P(Convergence, DecidesAndSaysWhy) {
    const Decision decision = decide(GetParam().seen, GetParam().limits);
    EXPECT_EQ(decision.step, GetParam().step) << decision.reason;
    EXPECT_THAT(decision.reason, HasSubstr(GetParam().reason));
}

INSTANTIATE_TEST_SUITE_P(
    Table, Convergence,
    ::testing::Values(
        Case{"TheRestFits", after_a_round(3900), kLimits, NextStep::kSwitch,
             "expected downtime 49.0 ms, limit 50.0 ms"},
        Case{"TheRestFitsExactly", after_a_round(4000), kLimits, NextStep::kSwitch, "50.0 ms"},
        Case{"OnePageTooMany", after_a_round(4001), kLimits, NextStep::kRound,
             "expected downtime 50.0 ms, limit 50.0 ms"},
        Case{"NothingWasWritten", after_a_round(0), kLimits, NextStep::kSwitch, "10.0 ms"},
        Case{"NothingWasWrittenAndTheRateIsUnknown",
             with(after_a_round(0), [](auto& seen) { seen.page_rate = seen.check_rate = 0; }),
             kLimits, NextStep::kSwitch, "10.0 ms"},
        Case{"TheRateIsUnknown", with(after_a_round(1), [](auto& seen) { seen.page_rate = 0; }),
             kLimits, NextStep::kRound, "limit 50.0 ms"},
        Case{"TheFixedCostAloneIsTooLong",
             with(after_a_round(0), [](auto& seen) { seen.fixed_cost = milliseconds(51); }),
             kLimits, NextStep::kRound, "51.0 ms"},
        Case{"UnsettledPagesFit", after_a_round(2000, 20'000), kLimits, NextStep::kSwitch,
             "50.0 ms"},
        Case{"UnsettledPagesAreTooMany", after_a_round(2000, 20'001), kLimits,
             NextStep::kSettlingRound, "20001 unsettled pages are too many for the pause"},
        Case{"UnsettledPagesAreTooManyAndSoAreTheDirty", after_a_round(5000, 50'000), kLimits,
             NextStep::kRound, "limit 50.0 ms"},
        Case{"BelowTheThreshold",
             after_a_round(100'000),
             {.downtime_limit = milliseconds(50), .threshold = 100'000 * kPageBytes},
             NextStep::kSwitch,
             "threshold"},
        Case{"UnsettledPagesCountForTheThreshold",
             after_a_round(100'000, 1),
             {.downtime_limit = milliseconds(50), .threshold = 100'000 * kPageBytes},
             NextStep::kRound,
             "limit 50.0 ms"},
        Case{"AboveTheThresholdButItFits",
             after_a_round(1000),
             {.downtime_limit = milliseconds(50), .threshold = kPageBytes},
             NextStep::kSwitch,
             "expected downtime 20.0 ms"},
        Case{"AfterAllTheRounds",
             with(after_a_round(200'000), [](auto& seen) { seen.rounds_done = 30; }), kLimits,
             NextStep::kGiveUp, "no convergence in 30 rounds: expected downtime 2010.0 ms"},
        Case{"AfterAllButOneOfTheRounds",
             with(after_a_round(200'000), [](auto& seen) { seen.rounds_done = 29; }), kLimits,
             NextStep::kRound, "limit 50.0 ms"},
        Case{"AfterAllTheRoundsWhenAskedToStop",
             with(after_a_round(200'000), [](auto& seen) { seen.rounds_done = 30; }),
             {.on_no_converge = NoConverge::kStopAndCopy, .downtime_limit = milliseconds(50)},
             NextStep::kStopAndCopy,
             "no convergence in 30 rounds"},
        Case{"TheLastRoundMadeItFit",
             with(after_a_round(10), [](auto& seen) { seen.rounds_done = 30; }), kLimits,
             NextStep::kSwitch, "10.1 ms"},
        // A settling round is a round: it is not begun beyond the limits.
        Case{"UnsettledPagesAreTooManyAfterAllTheRounds",
             with(after_a_round(10, 200'000), [](auto& seen) { seen.rounds_done = 30; }), kLimits,
             NextStep::kGiveUp, "no convergence in 30 rounds"},
        Case{"AllTheDataWasSent",
             with(after_a_round(200'000), [](auto& seen) { seen.total_page_bytes = 3 * kTouched; }),
             kLimits, NextStep::kRound, "limit 50.0 ms"},
        Case{"MoreThanAllTheDataWasSent",
             with(after_a_round(200'000),
                  [](auto& seen) { seen.total_page_bytes = 3 * kTouched + kPageBytes; }),
             kLimits, NextStep::kGiveUp, "no convergence within 3.0 times the touched RAM"},
        Case{"MoreThanAllTheDataWasSentWhenAskedToStop",
             with(after_a_round(200'000),
                  [](auto& seen) { seen.total_page_bytes = 3 * kTouched + kPageBytes; }),
             {.on_no_converge = NoConverge::kStopAndCopy, .downtime_limit = milliseconds(50)},
             NextStep::kStopAndCopy,
             "no convergence within 3.0 times the touched RAM"},
        Case{"AnEmptyGuest",
             with(after_a_round(0), [](auto& seen) { seen.touched = seen.total_page_bytes = 0; }),
             kLimits, NextStep::kSwitch, "10.0 ms"}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(ConvergenceModel, KnowsTheDirtyRateAndR) {
    const Decision below = decide(after_a_round(99'000), kLimits);
    EXPECT_DOUBLE_EQ(below.dirty_pages_per_s, 99'000);
    EXPECT_DOUBLE_EQ(below.r, 0.99);
    EXPECT_DOUBLE_EQ(decide(after_a_round(100'000), kLimits).r, 1.0);
    EXPECT_DOUBLE_EQ(decide(after_a_round(101'000), kLimits).r, 1.01);
}

// r is for the reader: limits, not r, end the rounds, for a working set saturates.
TEST(ConvergenceModel, GoesOnWhereRIsAboveOne) {
    EXPECT_EQ(decide(after_a_round(300'000), kLimits).step, NextStep::kRound);
}

TEST(ConvergenceModel, SurvivesARoundThatTookNoTime) {
    const Decision decision =
        decide(with(after_a_round(1000), [](auto& seen) { seen.duration = {}; }), kLimits);
    EXPECT_EQ(decision.step, NextStep::kSwitch);
    EXPECT_GT(decision.r, 0);
}

TEST(ConvergenceModel, RIsZeroWhileTheRateIsUnknown) {
    EXPECT_EQ(decide(with(after_a_round(1000), [](auto& seen) { seen.page_rate = 0; }), kLimits).r,
              0);
}

TEST(ConvergenceModel, AnEndlessPauseIsADay) {
    const Decision decision =
        decide(with(after_a_round(1000), [](auto& seen) { seen.page_rate = 1e-9; }), kLimits);
    EXPECT_EQ(decision.expected_downtime, std::chrono::hours(24) + milliseconds(10));
}

// --- hybrid ---------------------------------------------------------------------------------

ConvergenceLimits hybrid() {
    return {.strategy = Strategy::kHybrid, .on_no_converge = NoConverge::kPostcopy};
}

// A round of `sent` pages that left `dirty` at 1 GB/s.
// As long as the pages take at 1 GB/s, a second at most: then there was something else to send.
RoundObservation hybrid_round(uint64_t sent, uint64_t dirty) {
    return {.rounds_done = 2,
            .duration = std::min<Duration>(seconds(1), std::chrono::nanoseconds(sent * kPageBytes)),
            .round_pages = sent,
            .dirty_pages = dirty,
            .unsettled_pages = dirty,
            .page_rate = 1e9,
            .check_rate = 1e9,
            .total_page_bytes = sent * kPageBytes,
            .touched = Bytes{1} << 30,
            .fixed_cost = milliseconds(15)};
}

TEST(Hybrid, EndsWithAllPagesWhereTheLastSetAddsAMillisecondAtMost) {
    EXPECT_EQ(decide(hybrid_round(10'000, 240), hybrid()).step, NextStep::kSwitch);
    // The same rest would fit the downtime limit of pre-copy ten times.
    EXPECT_NE(decide(hybrid_round(10'000, 260), hybrid()).step, NextStep::kSwitch);
}

TEST(Hybrid, GoesOnWhileRoundsShrink) {
    EXPECT_EQ(decide(hybrid_round(10'000, 7'400), hybrid()).step, NextStep::kRound);
}

TEST(Hybrid, SwitchesWhenARoundLeavesNearlyAsMuchAsItSent) {
    const Decision decision = decide(hybrid_round(10'000, 7'600), hybrid());
    EXPECT_EQ(decision.step, NextStep::kPostcopy);
    EXPECT_THAT(decision.reason, ::testing::HasSubstr("do not help"));
}

TEST(Hybrid, SwitchesAfterOneRoundWhenTheGuestWritesFasterThanTheLink) {
    // It did shrink, and there is data to spare.
    const Decision decision = decide(hybrid_round(700'000, 500'000), hybrid());
    EXPECT_EQ(decision.step, NextStep::kPostcopy);
    EXPECT_THAT(decision.reason, HasSubstr("can't converge: r = 2.05"));
}

TEST(Hybrid, DoesAsItWasToldInsteadOfPostCopy) {
    ConvergenceLimits limits = hybrid();
    limits.on_no_converge = NoConverge::kThrottle;
    EXPECT_EQ(decide(hybrid_round(10'000, 9'000), limits).step, NextStep::kThrottle);
    limits.on_no_converge = NoConverge::kStopAndCopy;
    EXPECT_EQ(decide(hybrid_round(10'000, 9'000), limits).step, NextStep::kStopAndCopy);
    limits.on_no_converge = NoConverge::kFail;
    EXPECT_EQ(decide(hybrid_round(10'000, 9'000), limits).step, NextStep::kRound);
    limits.max_rounds = 2;
    EXPECT_EQ(decide(hybrid_round(10'000, 9'000), limits).step, NextStep::kGiveUp);
}

TEST(Hybrid, SettlesWhenOnlyADiskKeepsItFromItsEnd) {
    RoundObservation seen = hybrid_round(10'000, 100);
    seen.unsettled_pages = 5'000;
    EXPECT_EQ(decide(seen, hybrid()).step, NextStep::kSettlingRound);
}

TEST(Precopy, SwitchesToPostCopyAtALimitWhereThatWasAskedFor) {
    ConvergenceLimits limits{.on_no_converge = NoConverge::kPostcopy, .max_rounds = 2};
    EXPECT_EQ(decide(hybrid_round(100'000, 90'000), limits).step, NextStep::kPostcopy);
    limits.max_rounds = 30;
    EXPECT_EQ(decide(hybrid_round(100'000, 90'000), limits).step, NextStep::kRound);
}

// --- throttle -------------------------------------------------------------------------------

ConvergenceLimits throttled(Strategy strategy = Strategy::kPrecopy) {
    return {.strategy = strategy, .on_no_converge = NoConverge::kThrottle};
}

TEST(Throttle, HoldsBackMoreAfterEachRoundThatDidNotHelp) {
    const Decision flat = decide(hybrid_round(100'000, 97'000), throttled());
    EXPECT_EQ(flat.step, NextStep::kThrottle);
    EXPECT_THAT(flat.reason, HasSubstr("do not help"));
    const Decision fast = decide(hybrid_round(700'000, 500'000), throttled());
    EXPECT_EQ(fast.step, NextStep::kThrottle);
    EXPECT_THAT(fast.reason, HasSubstr("can't converge: r = 2.05"));
    EXPECT_EQ(decide(hybrid_round(100'000, 76'000), throttled(Strategy::kHybrid)).step,
              NextStep::kThrottle);
}

TEST(Throttle, LetsRoundsThatShrinkGoOn) {
    EXPECT_EQ(decide(hybrid_round(100'000, 74'000), throttled()).step, NextStep::kRound);
    // Slowly: 45 ms at 1 GB/s are 8,500 pages, eleven more rounds and half a GiB away.
    EXPECT_EQ(decide(hybrid_round(100'000, 80'000), throttled()).step, NextStep::kRound);
}

TEST(Throttle, HoldsBackWhereTheLimitsWouldEndRoundsThatShrink) {
    RoundObservation seen = hybrid_round(100'000, 80'000);
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kRound);
    seen.rounds_done = 25;
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kThrottle);
    seen.rounds_done = 2;
    seen.total_page_bytes = 2 * seen.touched + seen.touched / 2;
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kThrottle);
}

TEST(Throttle, HoldsNothingBackWhereTheRestFits) {
    // 8,000 pages at 1 GB/s and the fixed cost are 47.8 ms; as many were sent.
    EXPECT_EQ(decide(hybrid_round(8'000, 8'000), throttled()).step, NextStep::kSwitch);
    // Nor where only a disk is in the way.
    RoundObservation seen = hybrid_round(8'000, 8'000);
    seen.unsettled_pages = 100'000;
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kSettlingRound);
}

// Neither stop-and-copy nor post-copy was asked for.
TEST(Throttle, GivesUpAtTheLimits) {
    for (const Strategy strategy : {Strategy::kPrecopy, Strategy::kHybrid}) {
        ConvergenceLimits limits = throttled(strategy);
        limits.max_rounds = 2;
        EXPECT_EQ(decide(hybrid_round(100'000, 90'000), limits).step, NextStep::kGiveUp);
        limits = throttled(strategy);
        limits.max_data = 0.1;
        EXPECT_EQ(decide(hybrid_round(100'000, 90'000), limits).step, NextStep::kGiveUp);
    }
}

TEST(Hybrid, AtALimitDoesWhatWasAskedForWhileRoundsStillShrink) {
    ConvergenceLimits limits = hybrid();
    limits.max_rounds = 2;
    EXPECT_EQ(decide(hybrid_round(10'000, 5'000), limits).step, NextStep::kPostcopy);
    limits.on_no_converge = NoConverge::kStopAndCopy;
    EXPECT_EQ(decide(hybrid_round(10'000, 5'000), limits).step, NextStep::kStopAndCopy);
}

TEST(Hybrid, EndsAtTheThresholdWithAllPages) {
    ConvergenceLimits limits = hybrid();
    limits.threshold = 5'000 * kPageBytes;
    EXPECT_EQ(decide(hybrid_round(6'000, 5'000), limits).step, NextStep::kSwitch);
    EXPECT_EQ(decide(hybrid_round(6'000, 5'001), limits).step, NextStep::kPostcopy);
}

TEST(Precopy, TakesOnlyTheLimitsForNoConvergence) {
    // r, flat and hopeless rounds are nothing to it.
    for (const NoConverge asked :
         {NoConverge::kFail, NoConverge::kStopAndCopy, NoConverge::kPostcopy})
        for (const uint64_t dirty : {500'000, 510'000})
            EXPECT_EQ(decide(hybrid_round(500'000, dirty), {.on_no_converge = asked}).step,
                      NextStep::kRound);
}

TEST(Throttle, HoldsBackWhereTheCostOfARoundIsTooMuch) {
    // 15 ms beside its pages, in which the guest writes more pages than fit into the pause.
    RoundObservation seen = hybrid_round(20'000, 16'000);
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kRound);
    seen.duration += milliseconds(60);
    EXPECT_EQ(decide(seen, throttled()).step, NextStep::kThrottle);
}

TEST(Throttle, DoesNotWaitForRoundsThatAreFarAway) {
    // Each leaves 97 %: a hundred rounds would do.
    ConvergenceLimits patient = throttled();
    patient.max_rounds = 10'000;
    patient.max_data = 1'000;
    EXPECT_EQ(decide(hybrid_round(100'000, 97'000), patient).step, NextStep::kThrottle);
}

// --- a deadline for all of it -----------------------------------------------------------------

TEST(FinishBy, SwitchesWhileTheRestStillFits) {
    using std::chrono::seconds;
    const uint64_t one_gb = 1'000'000'000 / kPageBytes;  // a second at 1 GB/s, one and a half here
    EXPECT_FALSE(must_switch_by(seconds(30), seconds(28), one_gb, 1e9));
    EXPECT_TRUE(must_switch_by(seconds(30), seconds(29), one_gb, 1e9));
    EXPECT_TRUE(must_switch_by(seconds(30), seconds(31), 0, 1e9));
    EXPECT_FALSE(must_switch_by(seconds(0), seconds(31), one_gb, 1e9));  // no deadline
}

}  // namespace
}  // namespace godwit
