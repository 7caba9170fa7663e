#include "tools/godwitd/fixed_costs.h"

#include <gtest/gtest.h>

#include <cmath>

namespace godwit {
namespace {

using std::chrono::milliseconds;

v1::MigrationReport done_in(double fixed_ms) {
    v1::MigrationReport report;
    report.set_outcome(v1::OUTCOME_DONE);
    report.mutable_downtime()->set_device_state_ms(fixed_ms);
    report.mutable_downtime()->set_stop_to_quiet_ms(1000);
    return report;
}

TEST(FixedCosts, AreTheLowerMedianOfTheLastFive) {
    FixedCosts costs;
    EXPECT_EQ(costs.expect(milliseconds(300)), milliseconds(15));
    for (const int ms : {6, 4, 90, 5, 7}) costs.note(done_in(ms));
    EXPECT_EQ(costs.expect(milliseconds(300)), milliseconds(6));
}

TEST(FixedCosts, LeaveHalfOfAShortLimitToThePages) {
    const FixedCosts costs;
    EXPECT_EQ(costs.expect(milliseconds(10)), milliseconds(5));
}

TEST(FixedCosts, AreNotPutBelowWhatNoPauseIsShorterThan) {
    const FixedCosts costs;
    EXPECT_EQ(costs.expect(milliseconds(1)), milliseconds(3));
}

TEST(FixedCosts, LearnNothingFromWhatWasNotDoneOrMakesNoSense) {
    FixedCosts costs;
    v1::MigrationReport failed = done_in(3);
    failed.set_outcome(v1::OUTCOME_FAILED);
    costs.note(failed);
    for (const double ms : {0.0, -1.0, std::nan(""), HUGE_VAL, 1e300}) costs.note(done_in(ms));
    EXPECT_EQ(costs.expect(milliseconds(300)), milliseconds(15));
}

}  // namespace
}  // namespace godwit
