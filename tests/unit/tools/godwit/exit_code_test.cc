#include "tools/godwit/exit_code.h"

#include <gtest/gtest.h>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

v1::MigrationReport report(v1::Outcome outcome, v1::GuestAt guest_at) {
    v1::MigrationReport made;
    made.set_outcome(outcome);
    made.set_guest_at(guest_at);
    return made;
}

TEST(ExitCode, OfAReportSaysHowItEnded) {
    const struct {
        v1::Outcome outcome;
        v1::GuestAt guest_at;
        ExitCode code;
    } cases[] = {
        {v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION, ExitCode::kDone},
        {v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE, ExitCode::kFailed},
        {v1::OUTCOME_REFUSED, v1::GUEST_AT_SOURCE, ExitCode::kRefused},
        {v1::OUTCOME_CANCELLED, v1::GUEST_AT_SOURCE, ExitCode::kCancelled},
        {v1::OUTCOME_IN_DOUBT, v1::GUEST_AT_NEEDS_OPERATOR, ExitCode::kNeedsOperator},
        {v1::OUTCOME_GUEST_DIED, v1::GUEST_AT_NONE, ExitCode::kGuestDied},
    };
    for (const auto& one : cases)
        EXPECT_EQ(exit_code_of(report(one.outcome, one.guest_at)), one.code)
            << v1::Outcome_Name(one.outcome);
}

TEST(ExitCode, WhereTheGuestIsCountsMoreThanTheOutcome) {
    for (const v1::Outcome outcome :
         {v1::OUTCOME_FAILED, v1::OUTCOME_CANCELLED, v1::OUTCOME_DONE}) {
        EXPECT_EQ(exit_code_of(report(outcome, v1::GUEST_AT_NEEDS_OPERATOR)),
                  ExitCode::kNeedsOperator);
        EXPECT_EQ(exit_code_of(report(outcome, v1::GUEST_AT_NONE)), ExitCode::kGuestDied);
    }
}

TEST(ExitCode, OfACallIsUsageForWhatWasTypedWrongAndRefusedForTheRest) {
    EXPECT_EQ(exit_code_of(absl::OkStatus()), ExitCode::kDone);
    EXPECT_EQ(exit_code_of(absl::InvalidArgumentError("")), ExitCode::kUsage);
    EXPECT_EQ(exit_code_of(absl::NotFoundError("")), ExitCode::kRefused);
    EXPECT_EQ(exit_code_of(absl::AlreadyExistsError("")), ExitCode::kRefused);
    EXPECT_EQ(exit_code_of(with_detail(absl::UnavailableError(""), untouched("AGENT_UNREACHABLE"))),
              ExitCode::kRefused);
    EXPECT_EQ(exit_code_of(absl::FailedPreconditionError("")), ExitCode::kRefused);
    // A guest that would not power off: it was tried, and the guest runs.
    EXPECT_EQ(exit_code_of(absl::DeadlineExceededError("")), ExitCode::kFailed);
}

TEST(ExitCode, OfACallWhoseAnswerWasLostIsForAnOperatorToLookInto) {
    EXPECT_EQ(exit_code_of(absl::UnavailableError("")), ExitCode::kNeedsOperator);
}

TEST(ExitCode, NumbersArePartOfTheInterface) {
    EXPECT_EQ(static_cast<int>(ExitCode::kDone), 0);
    EXPECT_EQ(static_cast<int>(ExitCode::kFailed), 1);
    EXPECT_EQ(static_cast<int>(ExitCode::kUsage), 2);
    EXPECT_EQ(static_cast<int>(ExitCode::kRefused), 3);
    EXPECT_EQ(static_cast<int>(ExitCode::kNeedsOperator), 4);
    EXPECT_EQ(static_cast<int>(ExitCode::kCancelled), 5);
    EXPECT_EQ(static_cast<int>(ExitCode::kGuestDied), 6);
}

}  // namespace
}  // namespace godwit
