#include "tools/godwit/render.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "transport/control/error_detail.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;

v1::MigrationReport report() {
    v1::MigrationReport made;
    made.set_migration_id("m-1");
    made.set_vm("web");
    made.set_source("10.0.0.1:7654");
    made.set_destination("10.0.0.2:7654");
    return made;
}

TEST(JsonText, IsThereForWhatIsNoUtf8) {
    EXPECT_EQ(json_text({{"path", "a\xff"}}), "{\n  \"path\": \"a\xEF\xBF\xBD\"\n}");
}

TEST(Verdict, OfADoneMigrationSaysWhereTheGuestIs) {
    v1::MigrationReport made = report();
    made.set_outcome(v1::OUTCOME_DONE);
    made.set_guest_at(v1::GUEST_AT_DESTINATION);
    EXPECT_EQ(verdict(made),
              "migration m-1 done; the guest is at the destination 10.0.0.2:7654; a retry is not "
              "needed");
}

TEST(Verdict, OfAFailureSaysWhyWhereTheGuestIsAndThatARetryIsSafe) {
    v1::MigrationReport made = report();
    made.set_outcome(v1::OUTCOME_FAILED);
    made.set_guest_at(v1::GUEST_AT_SOURCE);
    made.set_retry_safe(true);
    made.set_reason("the link was cut");
    EXPECT_EQ(verdict(made),
              "migration m-1 failed: the link was cut; the guest is at the source 10.0.0.1:7654; a "
              "retry is safe");
}

TEST(Verdict, OfADoubtCallsForAnOperator) {
    v1::MigrationReport made = report();
    made.set_outcome(v1::OUTCOME_IN_DOUBT);
    made.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
    EXPECT_THAT(verdict(made), HasSubstr("in-doubt"));
    EXPECT_THAT(verdict(made), HasSubstr("needs an operator"));
    EXPECT_THAT(verdict(made), HasSubstr("a retry is not safe"));
}

TEST(Verdict, OfADeadGuestSaysThatItIsGone) {
    v1::MigrationReport made = report();
    made.set_outcome(v1::OUTCOME_GUEST_DIED);
    made.set_guest_at(v1::GUEST_AT_NONE);
    EXPECT_THAT(verdict(made), HasSubstr("the guest is gone"));
}

TEST(Refusal, ByTheAgentSaysThatNothingWasTouched) {
    const absl::Status error =
        with_detail(absl::NotFoundError("no VM named web"), untouched("NOT_FOUND"));
    EXPECT_EQ(refusal(error, "web"),
              "no VM named web; nothing was touched, the guest is where it was; a retry is safe");
}

TEST(Refusal, OfACallThatWasLostSaysHowToFindOut) {
    EXPECT_EQ(refusal(absl::UnavailableError("Socket closed"), "web"),
              "Socket closed; whether the migration began is not known: godwit report web");
}

TEST(ErrorJson, HasTheReasonAndWhereTheGuestIs) {
    const auto error =
        error_json(with_detail(absl::AlreadyExistsError("taken"), untouched("NAME_TAKEN")));
    EXPECT_EQ(error["error"], "taken");
    EXPECT_EQ(error["reason"], "NAME_TAKEN");
    EXPECT_EQ(error["guest_at"], "source");
    EXPECT_EQ(error["retry_safe"], true);
}

TEST(ErrorJson, SaysNothingAboutTheGuestWhenNothingIsKnown) {
    EXPECT_EQ(error_json(absl::InvalidArgumentError("bad"))["reason"], "USAGE");
    const auto lost = error_json(absl::UnavailableError("Socket closed"));
    EXPECT_EQ(lost["reason"], "CALL_LOST");
    EXPECT_FALSE(lost.contains("guest_at"));
}

TEST(ProgressLine, HasABarThatNeverOverflows) {
    v1::Progress progress;
    progress.set_round(3);
    progress.set_done_pages(450);
    progress.set_total_pages(1000);
    EXPECT_EQ(progress_line(progress), "round 3   [#########...........]  45 %");
    progress.set_done_pages(5000);
    EXPECT_EQ(progress_line(progress), "round 3   [####################] 100 %");
    progress.set_total_pages(0);
    progress.set_done_pages(0);
    EXPECT_EQ(progress_line(progress), "round 3   [....................]   0 %");
}

TEST(Summary, SplitsThePauseIntoItsParts) {
    v1::MigrationReport made = report();
    made.set_outcome(v1::OUTCOME_DONE);
    made.set_downtime_ms(15);
    made.mutable_downtime()->set_device_state_ms(9.5);
    made.add_rounds()->set_index(0);
    made.add_warnings("mind the gap");
    made.set_tracker("uffd-wp");
    made.set_tracker_reason("there is no log");
    EXPECT_THAT(summary(made), ::testing::Not(HasSubstr("held back")));
    made.set_throttle_percent(40);
    const std::string text = summary(made);
    for (const char* part :
         {"downtime", "stop to block layer drained", "last dirty set", "last pages", "device state",
          "9.50 ms", "commit to resumed", "warning: mind the gap",
          "tracked with uffd-wp, since there is no log", "vCPUs held back up to 40 %"})
        EXPECT_THAT(text, HasSubstr(part));
}

}  // namespace
}  // namespace godwit
