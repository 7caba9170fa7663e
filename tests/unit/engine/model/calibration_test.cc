#include "engine/model/calibration.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace godwit {
namespace {

constexpr MigrationCosts kDefaults{
    .setup_s = 0.2, .per_round_s = 0.001, .pause_s = 0.015, .fault_s = 1e-4};

TEST(Calibration, WithoutAHistoryIsWhatIsAssumedOtherwise) {
    const PairKnowledge knowledge = learn_from({}, kDefaults);
    EXPECT_EQ(knowledge.migrations, 0u);
    EXPECT_EQ(knowledge.costs.pause_s, 0.015);
    EXPECT_EQ(knowledge.errors.total.low, 1);
    EXPECT_EQ(knowledge.errors.total.high, 1);
    EXPECT_EQ(knowledge.rate_share, 1);
}

TEST(Calibration, TakesTheMedianOfCostsAndTheSpreadOfErrors) {
    std::vector<PastMigration> past;
    for (int i = 0; i <= 10; ++i)
        past.push_back({.setup_s = 0.1 * i,
                        .pause_s = 0.01 + (i == 10 ? 5 : 0),  // one bad moment
                        .total_error = 0.9 + 0.02 * i,
                        .rate_share = 0.5});
    const PairKnowledge knowledge = learn_from(past, kDefaults);
    EXPECT_EQ(knowledge.migrations, 11u);
    EXPECT_NEAR(knowledge.costs.setup_s, 0.5, 1e-12);
    EXPECT_NEAR(knowledge.costs.pause_s, 0.01, 1e-12);
    EXPECT_EQ(knowledge.costs.per_round_s, 0.001) << "nobody told";
    EXPECT_NEAR(knowledge.errors.total.low, 0.92, 1e-12);
    EXPECT_NEAR(knowledge.errors.total.high, 1.08, 1e-12);
    EXPECT_EQ(knowledge.errors.downtime.high, 1);
    EXPECT_EQ(knowledge.rate_share, 0.5);
}

TEST(Calibration, ARateOfPackedPagesIsLearntFromThemAlone) {
    std::vector<PastMigration> past = {{.rate_share = 0.9}, {.rate_share = 0.9}};
    EXPECT_EQ(learn_from(past, kDefaults).packed_rate_share, 0.9) << "nothing went packed yet";
    past.push_back({.packed_rate_share = 0.6});
    EXPECT_EQ(learn_from(past, kDefaults).packed_rate_share, 0.6);
    EXPECT_EQ(learn_from(past, kDefaults).rate_share, 0.9);
    past.push_back({.packed_rate_share = 1e6});
    past.push_back({.packed_rate_share = 1e6});
    EXPECT_EQ(learn_from(past, kDefaults).packed_rate_share, kMostRateShare);
}

TEST(Calibration, LearnsNothingFromNumbersThatAreNone) {
    constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
    constexpr double kInfinity = std::numeric_limits<double>::infinity();
    const std::vector<PastMigration> past = {
        {.setup_s = kNan, .pause_s = kInfinity, .total_error = kNan, .rate_share = 1e6},
        {.setup_s = -1, .pause_s = -kInfinity, .downtime_error = kInfinity, .rate_share = 1e6}};
    const PairKnowledge knowledge = learn_from(past, kDefaults);
    EXPECT_EQ(knowledge.costs.setup_s, 0.2);
    EXPECT_EQ(knowledge.costs.pause_s, 0.015);
    EXPECT_EQ(knowledge.migrations, 0u);
    EXPECT_EQ(knowledge.errors.total.high, 1);
    EXPECT_EQ(knowledge.errors.downtime.high, 1);
    EXPECT_EQ(knowledge.rate_share, kMostRateShare);
    // One that was off by a million must not end all plans.
    const std::vector<PastMigration> wild = {{.total_error = 1e6}};
    EXPECT_EQ(learn_from(wild, kDefaults).errors.total.high, kWorstError);
}

}  // namespace
}  // namespace godwit
