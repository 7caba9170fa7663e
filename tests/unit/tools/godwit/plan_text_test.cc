#include "tools/godwit/plan_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tools/godwit/words.h"

namespace godwit {
namespace {

using ::testing::AllOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;

void set(v1::Interval& interval, double mid) {
    interval.set_low(mid * 0.9);
    interval.set_mid(mid);
    interval.set_high(mid * 1.1);
}

TEST(PlanText, HasEachStrategyWithItsIntervalsAndEndsWithTheAnswer) {
    v1::Plan plan;
    v1::PlanRow& row = *plan.add_rows();
    row.set_strategy("precopy");
    row.set_codec("lz4");
    row.set_streams(2);
    row.set_rounds(3);
    row.set_converges(true);
    set(*row.mutable_total_ms(), 5000);
    set(*row.mutable_downtime_ms(), 20);
    row.set_verdict("all holds");
    row.set_choice("lz4 is faster");
    plan.add_notes("the VM is paused");
    plan.set_sentence("yes: precopy");
    plan.mutable_measured()->set_touched_bytes(1 << 30);
    plan.mutable_measured()->set_lz4_wire_share(0.5);
    plan.mutable_measured()->set_zstd_wire_share(0.25);
    v1::DirtyWindow& window = *plan.mutable_measured()->add_windows();
    window.set_window_ms(9400);
    window.set_dirty_pages(1234);
    EXPECT_THAT(plan_text(plan),
                AllOf(HasSubstr("5.00 s (4.50-5.50)"), HasSubstr("20.0 ms (18.0-22.0)"),
                      HasSubstr("precopy: all holds; lz4 is faster"),
                      HasSubstr("lz4 leaves 50 %, zstd 25 %"),
                      HasSubstr("1234 pages were written in 9.4 s"), HasSubstr("defaults"),
                      HasSubstr("note: the VM is paused"), EndsWith("\nyes: precopy\n")));
}

TEST(CalibrationText, PutsWhatWasPredictedBesideWhatCame) {
    v1::Calibration calibration;
    EXPECT_THAT(calibration_text(calibration), HasSubstr("no migration"));
    v1::HostPair& pair = *calibration.add_pairs();
    pair.set_destination("10.0.0.2:7654");
    v1::CalibrationEntry& entry = *pair.add_migrations();
    entry.set_migration_id("m-1");
    entry.set_total_ms(5100);
    entry.set_downtime_ms(21);
    EXPECT_THAT(calibration_text(calibration), HasSubstr("? -> 5.10"));
    entry.mutable_predicted()->set_predicted_by("plan");
    set(*entry.mutable_predicted()->mutable_total_ms(), 5000);
    set(*entry.mutable_predicted()->mutable_downtime_ms(), 20);
    EXPECT_THAT(
        calibration_text(calibration),
        AllOf(HasSubstr("to 10.0.0.2:7654"), HasSubstr("5.00 -> 5.10"), HasSubstr("20.0 -> 21.0")));
}

TEST(PlanRequest, IsWhatWasTypedOrNamesTheFlag) {
    const Words usual{.name = "web", .to = "10.0.0.2:7654"};
    const auto request = plan_request(usual);
    ASSERT_TRUE(request.ok()) << request.status();
    EXPECT_EQ(request->sample_us(), 10'000'000u);
    EXPECT_EQ(request->downtime_limit_us(), 0u) << "none is to be held";
    Words words = usual;
    words.planned_downtime_limit = "20ms";
    words.finish_by = "60s";
    EXPECT_EQ(plan_request(words)->downtime_limit_us(), 20'000u);
    EXPECT_EQ(plan_request(words)->finish_by_ms(), 60'000u);
    const auto refused = [&](std::string Words::*field, const std::string& text) {
        Words bad = usual;
        bad.*field = text;
        return std::string(plan_request(bad).status().message());
    };
    EXPECT_THAT(refused(&Words::name, ""), HasSubstr("godwit plan NAME"));
    EXPECT_THAT(refused(&Words::to, ""), HasSubstr("--to"));
    EXPECT_THAT(refused(&Words::to, "nowhere"), HasSubstr("--to"));
    EXPECT_THAT(refused(&Words::sample, "1ms"), HasSubstr("--sample"));
    EXPECT_THAT(refused(&Words::sample, "soon"), HasSubstr("--sample"));
    EXPECT_THAT(refused(&Words::planned_downtime_limit, "0ms"), HasSubstr("--downtime-limit"));
    EXPECT_THAT(refused(&Words::finish_by, "0s"), HasSubstr("--finish-by"));
    EXPECT_THAT(refused(&Words::bandwidth, "1B/s"), HasSubstr("--bandwidth"));
}

}  // namespace
}  // namespace godwit
