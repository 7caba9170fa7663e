#include "tools/godwit/fleet_render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

v1::MigrationReport report_of(v1::Outcome outcome, v1::GuestAt at) {
    v1::MigrationReport made;
    made.set_migration_id("m-1");
    made.set_outcome(outcome);
    made.set_guest_at(at);
    made.set_source("a:1");
    made.set_destination("b:1");
    made.set_total_ms(1500);
    made.set_downtime_ms(8.25);
    made.set_retry_safe(true);
    return made;
}

FleetBoard board_of_four() {
    FleetBoard board({"web", "db", "mail", "git"}, 3, 0);
    board.begin(MonotonicTime{});
    v1::MigrationEvent event;
    event.set_phase("rounds");
    event.mutable_progress()->set_total_pages(100);
    event.mutable_progress()->set_done_pages(45);
    board.event(0, event);
    board.end(1, end_of(report_of(v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION)));
    v1::MigrationReport failed = report_of(v1::OUTCOME_FAILED, v1::GUEST_AT_SOURCE);
    failed.set_reason("the link was cut");
    board.end(2, end_of(failed));
    return board;
}

TEST(FleetTable, HasWhatRunsFirstThenWhatWaitsThenWhatEnded) {
    const auto lines =
        fleet_table(board_of_four(), std::chrono::seconds(12), {.rows = 24, .columns = 120});
    ASSERT_EQ(lines.size(), 5U);
    EXPECT_EQ(lines[0], "1 of 4 done, 1 not, 1 under way, 1 wait; 12.0 s");
    EXPECT_THAT(lines[1], StartsWith("web "));
    EXPECT_THAT(lines[1], HasSubstr("45 %"));
    EXPECT_THAT(lines[2], HasSubstr("waits"));
    EXPECT_THAT(lines[3], HasSubstr("done, 8.2 ms downtime"));
    EXPECT_THAT(lines[4], HasSubstr("failed, guest at source: the link was cut"));
}

TEST(FleetTable, FitsAnyRoom) {
    std::vector<std::string> names;
    for (int i = 0; i < 300; ++i) names.push_back(std::string(60, 'x') + std::to_string(i));
    FleetBoard board(names, 32, 0);
    board.begin(MonotonicTime{});
    for (const size_t rows : {0U, 1U, 5U, 24U, 400U})
        for (const size_t columns : {0U, 20U, 80U}) {
            const auto lines = fleet_table(board, Duration::zero(), {rows, columns});
            EXPECT_LT(lines.size(), std::max<size_t>(rows, 5));
            for (const std::string& line : lines)
                EXPECT_LE(line.size(), std::max<size_t>(columns, 20));
        }
    const auto few = fleet_table(board, Duration::zero(), {.rows = 10, .columns = 80});
    EXPECT_EQ(few.back(), "and 293 more");
}

TEST(FleetVerdict, SaysOfEachWhereTheGuestIsAndWhetherARetryIsSafe) {
    FleetBoard board = board_of_four();
    EXPECT_EQ(fleet_verdict(board.guest(2)),
              "mail: migration m-1 failed: the link was cut; the guest is at the source a:1; a "
              "retry is safe");
    board.stop("cancelled before it began", ExitCode::kCancelled);
    EXPECT_EQ(fleet_verdict(board.guest(3)),
              "git: not-begun: cancelled before it began; the guest is at the source; a retry is "
              "safe");
    board.end(0, {.code = ExitCode::kNeedsOperator, .outcome = "unknown", .reason = "lost"});
    EXPECT_EQ(fleet_verdict(board.guest(0)),
              "web: unknown: lost; where the guest is, is not known; a retry is not safe");
}

TEST(FleetSummary, HasEachDowntimeAndTheGroupsTotal) {
    FleetBoard board = board_of_four();
    board.stop("x", ExitCode::kCancelled);
    board.end(0, end_of(report_of(v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION)));
    FleetFrame frame{
        .order = {.vms = {"web", "db", "mail", "git"}, .at_a_time = 3, .reason = "why"},
        .schedule = "auto",
        .left_out = {{.vm = "ftp", .holder = "m-9"}},
        .downtime_limit_ms = 8,
        .times = {.sampling = std::chrono::milliseconds(1050),
                  .total = std::chrono::milliseconds(2310)}};
    const std::string text = fleet_summary(board, frame);
    EXPECT_THAT(text, HasSubstr("8.25"));
    EXPECT_THAT(text, HasSubstr("2 of 4 done, 2 not in 2.31 s, why\n"));
    EXPECT_THAT(text, HasSubstr("before that, 1.05 s to see what they write\n"));
    EXPECT_THAT(text, HasSubstr("over the downtime limit of 8 ms: web, db\n"));
    const auto json = fleet_json(board, frame);
    EXPECT_EQ(json["schedule"], "auto");
    EXPECT_EQ(json["downtime_limit_ms"], 8.0);
    EXPECT_EQ(json["left_out"].size(), 1U);
    EXPECT_EQ(json["left_out"][0]["vm"], "ftp");
    EXPECT_EQ(json["left_out"][0]["in_use_by"], "m-9");
    EXPECT_EQ(json["total_ms"], 2310.0);
    EXPECT_EQ(json["done"], 2);
    EXPECT_EQ(json["guests"][0]["downtime_ms"], 8.25);
    EXPECT_TRUE(json["guests"][2]["downtime_ms"].is_null()) << "it has not moved";
    EXPECT_TRUE(json["guests"][3]["report"].is_null());
    EXPECT_EQ(json["guests"][3]["guest_at"], "source");
    EXPECT_THAT(json.dump(), Not(HasSubstr("nan")));
    frame.downtime_limit_ms = 8.25;
    frame.times.sampling = Duration::zero();
    EXPECT_THAT(fleet_summary(board, frame), Not(HasSubstr("over the downtime limit")));
    EXPECT_THAT(fleet_summary(board, frame), Not(HasSubstr("before that")));
}

TEST(FleetSummary, SaysWhereAGangIsSplitAndOnlyOfAGang) {
    FleetBoard board = board_of_four();
    board.stop("x", ExitCode::kCancelled);
    board.end(0, end_of(report_of(v1::OUTCOME_DONE, v1::GUEST_AT_DESTINATION)));
    FleetFrame frame{
        .order = {.vms = {"web", "db", "mail", "git"}, .at_a_time = 4, .is_gang = true}};
    EXPECT_THAT(fleet_summary(board, frame),
                HasSubstr("the gang is split: web, db at the destination, mail, git not\n"));
    EXPECT_EQ(fleet_json(board, frame)["split"], true);
    frame.order.is_gang = false;
    EXPECT_THAT(fleet_summary(board, frame), Not(HasSubstr("split")));
    EXPECT_EQ(fleet_json(board, frame)["split"], false);
}

}  // namespace
}  // namespace godwit
