#include "tools/godwit/fleet_board.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr MonotonicTime kNow{};

FleetEnd ended(v1::Outcome outcome, v1::GuestAt at) {
    v1::MigrationReport report;
    report.set_outcome(outcome);
    report.set_guest_at(at);
    return end_of(report);
}
FleetEnd arrived() { return ended(v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION); }

TEST(FleetBoard, HasAsManyUnderWayAsItMayAndTheNextWhenOneEnds) {
    FleetBoard board({"a", "b", "c"}, 2, 0);
    EXPECT_THAT(board.begin(kNow), ElementsAre(0, 1));
    EXPECT_THAT(board.begin(kNow), IsEmpty());
    board.end(1, arrived());
    EXPECT_THAT(board.begin(kNow), ElementsAre(2));
    board.end(0, arrived());
    board.end(2, arrived());
    EXPECT_TRUE(board.is_over());
    EXPECT_EQ(board.exit_code(), ExitCode::kDone);
}

TEST(FleetBoard, BeginsThoseThatWaitInTheOrderThatItIsToldLater) {
    FleetBoard board({"a", "b", "c", "d"}, 1, 0);
    EXPECT_THAT(board.begin(kNow), ElementsAre(0));
    board.reorder({"a", "d", "c"}, 3);
    EXPECT_THAT(board.begin(kNow), ElementsAre(3, 2)) << "b was left out: it comes last";
    board.end(0, arrived());
    EXPECT_THAT(board.begin(kNow), ElementsAre(1));
}

TEST(FleetBoard, GivesEqualSharesAndTellsWhoseShareChanged) {
    FleetBoard board({"a", "b", "c"}, 2, 1000 * 1024);
    board.begin(kNow);
    EXPECT_EQ(board.guest(0).bandwidth, 500U * 1024);
    EXPECT_EQ(board.guest(1).bandwidth, 500U * 1024);
    board.has_id(0, "m0");
    EXPECT_THAT(board.take_unequal(), IsEmpty());
    board.end(1, arrived());
    EXPECT_THAT(board.take_unequal(), ElementsAre(0));
    EXPECT_EQ(board.guest(0).bandwidth, 1000U * 1024);
    EXPECT_THAT(board.take_unequal(), IsEmpty()) << "it counts as told";
    board.begin(kNow);
    EXPECT_EQ(board.guest(2).bandwidth, 500U * 1024);
    EXPECT_THAT(board.take_unequal(), ElementsAre(0)) << "the new one's agent has no id yet";
}

TEST(FleetBoard, TellsAShareThatChangedWhileTheIdWasUnknown) {
    FleetBoard board({"a", "b"}, 2, 1000 * 1024);
    board.begin(kNow);
    board.end(1, arrived());
    EXPECT_THAT(board.take_unequal(), IsEmpty());
    board.has_id(0, "m0");
    EXPECT_THAT(board.take_unequal(), ElementsAre(0));
}

TEST(FleetBoard, WithoutALimitThereAreNoSharesAndATinyOneStaysALimit) {
    FleetBoard free({"a", "b"}, 2, 0);
    free.begin(kNow);
    EXPECT_EQ(free.share(), 0U);
    FleetBoard tiny({"a", "b"}, 2, 1024);
    tiny.begin(kNow);
    EXPECT_EQ(tiny.share(), 1024U) << "0 would be no limit";
}

v1::MigrationEvent in_phase(const char* phase) {
    v1::MigrationEvent event;
    event.set_phase(phase);
    return event;
}

TEST(FleetBoard, AGangProceedsOnceAllAreReadyWhateverElseTheySay) {
    FleetBoard board({"a", "b"}, 2, 0);
    board.begin(kNow);
    EXPECT_EQ(board.gang_step(), GangStep::kWait);
    board.event(0, in_phase("ready"));
    board.event(0, in_phase("rounds"));
    board.event(1, in_phase("rounds"));
    EXPECT_EQ(board.gang_step(), GangStep::kWait);
    board.event(1, in_phase("ready"));
    EXPECT_EQ(board.gang_step(), GangStep::kProceed);
}

TEST(FleetBoard, AGangStaysOnceOneCanNotCome) {
    FleetBoard board({"a", "b"}, 2, 0);
    board.begin(kNow);
    board.event(0, in_phase("ready"));
    board.event(1, in_phase("ready"));
    board.end(1, ended(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE));
    EXPECT_EQ(board.gang_step(), GangStep::kAbandon);
}

TEST(FleetBoard, AGangWaitsForNobodyWhoWasLetGoOnByHand) {
    FleetBoard board({"a", "b", "c"}, 3, 0);
    board.begin(kNow);
    board.event(0, in_phase("ready"));
    board.event(1, in_phase("rounds"));
    board.event(1, in_phase("freeze"));
    EXPECT_EQ(board.gang_step(), GangStep::kWait);
    board.end(2, arrived());
    EXPECT_EQ(board.gang_step(), GangStep::kProceed);
}

TEST(FleetBoard, IsSplitWhereSomeGuestsAreAtTheDestinationAndOthersNot) {
    FleetBoard board({"a", "b"}, 2, 0);
    board.begin(kNow);
    EXPECT_FALSE(board.is_split());
    board.end(0, arrived());
    EXPECT_TRUE(board.is_split());
    board.end(1, ended(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE));
    EXPECT_TRUE(board.is_split());
    board.end(1, arrived());
    EXPECT_FALSE(board.is_split());
}

TEST(FleetBoard, BeginsNothingAfterARefusalForWantOfRoomUntilOneEndsOrASecondHasPassed) {
    FleetBoard board({"a", "b", "c", "d"}, 3, 0);
    ASSERT_THAT(board.begin(kNow), ElementsAre(0, 1, 2));
    EXPECT_FALSE(board.begins_at().has_value());
    EXPECT_TRUE(board.had_no_room(1, kNow));
    EXPECT_EQ(board.guest(1).step, FleetStep::kWaiting);
    EXPECT_THAT(board.begin(kNow), IsEmpty());
    EXPECT_EQ(board.begins_at(), kNow + std::chrono::seconds(1));
    EXPECT_THAT(board.begin(*board.begins_at()), ElementsAre(1));
    EXPECT_TRUE(board.had_no_room(1, kNow));
    board.end(0, arrived());
    EXPECT_THAT(board.begin(kNow), ElementsAre(1, 3));
}

TEST(FleetBoard, GivesUpAVmForWhichThereIsNoRoomThoughNothingOfTheGroupIsUnderWay) {
    FleetBoard board({"a"}, 1, 0);
    MonotonicTime now = kNow;
    int tries = 0;
    while (true) {
        ASSERT_THAT(board.begin(now), ElementsAre(0));
        ++tries;
        if (!board.had_no_room(0, now)) break;
        ASSERT_LT(tries, 1000);
        now = board.begins_at().value();
    }
    EXPECT_EQ(tries, 60);
    EXPECT_EQ(board.guest(0).step, FleetStep::kUnderWay) << "whoever heard the refusal ends it";
}

TEST(FleetBoard, TheOutageIsFromTheFirstPauseToTheLastResume) {
    const auto stopped = [](double unix_ms, double downtime_ms, double verify_ms) {
        v1::MigrationReport report;
        report.set_outcome(v1::OUTCOME_DONE);
        report.set_guest_at(v1::GUEST_AT_DESTINATION);
        report.set_stopped_unix_ms(unix_ms);
        report.set_downtime_ms(downtime_ms);
        report.set_verify_ms(verify_ms);
        return end_of(report);
    };
    FleetBoard board({"a", "b", "c"}, 3, 0);
    board.begin(kNow);
    board.end(0, stopped(1e12 + 40, 10, 0));
    EXPECT_FALSE(board.outage_ms().has_value()) << "one guest is no group";
    board.end(1, stopped(1e12, 20, 35));
    board.end(2, ended(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE));
    EXPECT_EQ(board.outage_ms(), 55);
}

TEST(FleetBoard, AStopEndsTheWaitingOnlyAndTheirGuestsAreAtTheSource) {
    FleetBoard board({"a", "b", "c"}, 1, 0);
    board.begin(kNow);
    board.stop("cancelled before it began", ExitCode::kCancelled);
    EXPECT_THAT(board.begin(kNow), IsEmpty());
    EXPECT_EQ(board.count(FleetStep::kUnderWay), 1U);
    EXPECT_FALSE(board.is_over());
    EXPECT_EQ(board.guest(2).end.outcome, "not-begun");
    EXPECT_EQ(board.guest(2).end.guest_at, v1::GUEST_AT_SOURCE);
    EXPECT_TRUE(board.guest(2).end.retry_safe);
    board.end(0, arrived());
    EXPECT_TRUE(board.is_over());
    EXPECT_EQ(board.exit_code(), ExitCode::kCancelled);
}

struct Ends {
    const char* name;
    std::vector<FleetEnd> ends;
    ExitCode code;
};
void PrintTo(const Ends& param, std::ostream* out) { *out << param.name; }

class GroupExitCode : public ::testing::TestWithParam<Ends> {};

TEST_P(GroupExitCode, IsThatOfTheGravest) {
    std::vector<std::string> names(GetParam().ends.size(), "vm");
    FleetBoard board(names, 9, 0);
    for (size_t i = 0; i < names.size(); ++i) board.end(i, GetParam().ends[i]);
    EXPECT_EQ(board.exit_code(), GetParam().code);
}

const FleetEnd kRefused = ended(v1::OUTCOME_REFUSED, v1::GUEST_AT_SOURCE);
const FleetEnd kFailed = ended(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE);
const FleetEnd kUnread = end_of_refused(
    with_detail(absl::InvalidArgumentError("no such tracker"), untouched("BAD_REQUEST")), "vm");
const FleetEnd kCancelled = ended(v1::OUTCOME_CANCELLED, v1::GUEST_AT_SOURCE);
const FleetEnd kDied = ended(v1::OUTCOME_GUEST_DIED, v1::GUEST_AT_NONE);
const FleetEnd kDoubt = ended(v1::OUTCOME_IN_DOUBT, v1::GUEST_AT_NEEDS_OPERATOR);

INSTANTIATE_TEST_SUITE_P(
    FleetBoard, GroupExitCode,
    ::testing::Values(Ends{"AllDone", {arrived(), arrived()}, ExitCode::kDone},
                      Ends{"AllRefused", {kRefused, kRefused}, ExitCode::kRefused},
                      Ends{"AllAreNoRequests", {kUnread, kUnread}, ExitCode::kUsage},
                      Ends{"RefusedInTwoWays", {kRefused, kUnread}, ExitCode::kRefused},
                      Ends{"SomeAreNoRequests", {arrived(), kUnread}, ExitCode::kFailed},
                      Ends{"SomeRefused", {arrived(), kRefused}, ExitCode::kFailed},
                      Ends{"SomeFailed", {arrived(), kFailed, kRefused}, ExitCode::kFailed},
                      Ends{"Cancelled", {arrived(), kFailed, kCancelled}, ExitCode::kCancelled},
                      Ends{"Died", {arrived(), kCancelled, kDied}, ExitCode::kGuestDied},
                      Ends{"Doubt", {kDied, kDoubt, arrived()}, ExitCode::kNeedsOperator}),
    [](const auto& test) { return std::string(test.param.name); });

TEST(FleetEnd, OfARefusalHasTheAgentsWordsAndOfALostAnswerNoPlace) {
    const FleetEnd refused = end_of_refused(
        with_detail(absl::NotFoundError("no VM web"), untouched("NOT_FOUND")), "web");
    EXPECT_EQ(refused.code, ExitCode::kRefused);
    EXPECT_EQ(refused.guest_at, v1::GUEST_AT_SOURCE);
    EXPECT_TRUE(refused.retry_safe);
    const FleetEnd busy = end_of_refused(
        with_detail(absl::FailedPreconditionError("it is being migrated"), untouched("REFUSED")),
        "web");
    EXPECT_EQ(busy.code, ExitCode::kRefused);
    EXPECT_FALSE(busy.guest_at.has_value()) << "another migration may have it by now";
    const FleetEnd lost = end_of_refused(absl::UnavailableError("reset"), "web");
    EXPECT_EQ(lost.code, ExitCode::kNeedsOperator);
    EXPECT_FALSE(lost.guest_at.has_value());
    EXPECT_FALSE(lost.retry_safe);
    EXPECT_THAT(lost.reason, HasSubstr("godwit report web"));
}

TEST(FleetEnd, OfAMemberThatAGangLeftSaysForWhomAlsoInItsReport) {
    FleetEnd end = ended(v1::OUTCOME_CANCELLED, v1::GUEST_AT_SOURCE);
    end.report->set_reason("cancelled");
    end = end_of_abandoned(std::move(end), "db");
    EXPECT_EQ(end.code, ExitCode::kFailed);
    EXPECT_EQ(end.reason, "db can't come, and they belong together");
    EXPECT_EQ(end.report->reason(), end.reason);
}

TEST(FleetEnd, KnowsARefusalForWantOfRoom) {
    const absl::Status full = absl::ResourceExhaustedError("32 migrations are running");
    EXPECT_TRUE(is_no_room(with_detail(full, untouched("NO_ROOM"))));
    EXPECT_FALSE(is_no_room(with_detail(full, untouched("REFUSED"))));
    EXPECT_FALSE(is_no_room(full));
}

}  // namespace
}  // namespace godwit
