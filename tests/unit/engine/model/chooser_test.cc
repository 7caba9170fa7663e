#include "engine/model/chooser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

// 4 GiB over 10 Gb/s, and a guest that writes `pages` over and over.
PlanInput input_for(double pages) {
    return {.samples = {{0.05, pages}, {0.5, pages}, {5, pages}},
            .touched_pages = 1 << 20,
            .link_rate = {.low = 1.1e9, .mid = 1.2e9, .high = 1.25e9},
            .codecs = {{.name = "raw", .wire_share = 1, .stream_page_rate = 8e8},
                       {.name = "lz4", .wire_share = 0.5, .stream_page_rate = 3e8}},
            .max_streams = 4,
            .costs = {.pause_s = 0.008},
            .limits = {.downtime_limit = std::chrono::milliseconds(30)}};
}

TEST(Chooser, TakesPreCopyWhereItConverges) {
    const auto plan = make_plan(input_for(1000));
    ASSERT_TRUE(plan.ok());
    ASSERT_TRUE(plan->chosen);
    EXPECT_EQ(plan->rows[*plan->chosen].forecast.strategy, Strategy::kPrecopy);
    EXPECT_THAT(plan->sentence, StartsWith("yes: precopy with"));
    EXPECT_THAT(plan->sentence, HasSubstr("stop-and-copy would not do: downtime up to"));
    EXPECT_EQ(plan->rows.size(), 4u);
}

TEST(Chooser, TakesHybridWhereTheWorkingSetIsTooLarge) {
    const auto plan = make_plan(input_for(200'000));
    ASSERT_TRUE(plan->chosen);
    EXPECT_EQ(plan->rows[*plan->chosen].forecast.strategy, Strategy::kHybrid);
    EXPECT_THAT(plan->sentence, HasSubstr("precopy would not do: it will not converge"));
}

TEST(Chooser, StopsASmallGuestAtOnce) {
    PlanInput input = input_for(100);
    input.touched_pages = 2000;
    EXPECT_THAT(make_plan(input)->sentence, StartsWith("yes: stop-and-copy"));
}

TEST(Chooser, TakesTheCodecAndTheFewestStreamsThatFillTheLink) {
    const auto plan = make_plan(input_for(1000));
    const PlanRow& row = plan->rows[*plan->chosen];
    EXPECT_EQ(row.codec, "raw");  // four streams of lz4 make 1.2e9, two of raw as much
    EXPECT_EQ(row.streams, 2u);
    PlanInput slow = input_for(1000);
    slow.link_rate = {.low = 1.1e8, .mid = 1.2e8, .high = 1.25e8};
    const auto compressed = make_plan(slow);
    EXPECT_EQ(compressed->rows[1].codec, "lz4");
    EXPECT_EQ(compressed->rows[1].streams, 1u);
}

TEST(Chooser, TakesALaterCodecOnlyWhereItSavesEnough) {
    PlanInput slow = input_for(1000);
    slow.link_rate = {.low = 1.1e8, .mid = 1.2e8, .high = 1.25e8};
    slow.codecs.push_back(
        {.name = "zstd", .wire_share = 0.47, .stream_page_rate = 2e8, .least_gain = 0.1});
    EXPECT_EQ(make_plan(slow)->rows[1].codec, "lz4") << "zstd saves six hundredths";
    slow.codecs.back().least_gain = 0;
    EXPECT_EQ(make_plan(slow)->rows[1].codec, "zstd");
    slow.codecs.back().least_gain = 0.1;
    slow.codecs.back().wire_share = 0.3;
    const auto plan = make_plan(slow);
    EXPECT_EQ(plan->rows[1].codec, "zstd");
    EXPECT_EQ(plan->rows[1].streams, 2u);
    slow.codecs.back().least_gain = -1;
    EXPECT_FALSE(make_plan(slow).ok());
}

TEST(Chooser, ReckonsWithTheRateThatACodecHasReached) {
    PlanInput input = input_for(1000);
    input.codecs[0].rate_share = 0.5;
    const auto packed = make_plan(input);
    ASSERT_TRUE(packed.ok()) << packed.status();
    EXPECT_EQ(packed->rows[1].codec, "lz4") << "raw reaches 600 MB/s of the link's 1,200";
    EXPECT_NEAR(packed->rows[1].page_rate, 1.2e9, 1);
    input.codecs[1].rate_share = 0.4;
    const auto raw = make_plan(input);
    ASSERT_TRUE(raw.ok()) << raw.status();
    EXPECT_EQ(raw->rows[1].codec, "raw") << "lz4 480 MB/s";
    EXPECT_NEAR(raw->rows[1].page_rate, 0.6e9, 1);
    input.codecs[0].rate_share = -1;
    EXPECT_TRUE(absl::IsInvalidArgument(make_plan(input).status()));
}

TEST(Chooser, SaysNoWithTheReason) {
    PlanInput input = input_for(1000);
    input.costs.pause_s = 0.05;
    auto plan = make_plan(input);
    EXPECT_FALSE(plan->chosen);
    EXPECT_THAT(plan->sentence, StartsWith("no: "));
    EXPECT_THAT(plan->sentence, HasSubstr("device state and resume alone take 50.0 ms"));
    input = input_for(1000);
    input.finish_by_s = 1;
    plan = make_plan(input);
    EXPECT_FALSE(plan->chosen);
    EXPECT_THAT(plan->sentence, HasSubstr("limit 1.0 s"));
}

TEST(Chooser, SaysWhyItTakesThatCodecAndSoManyStreams) {
    const auto plan = make_plan(input_for(1000));
    const PlanRow& row = plan->rows[*plan->chosen];
    EXPECT_THAT(row.choice, StartsWith("raw on 2 streams takes"));
    EXPECT_THAT(row.choice, HasSubstr("one stream less"));
    EXPECT_THAT(row.choice, HasSubstr("lz4 at best"));
    EXPECT_DOUBLE_EQ(row.page_rate, 1.2e9) << "the link";
}

TEST(Chooser, StreamsShareTheCpusWithTheGuestWhileItRuns) {
    // So slow that CPUs decide: two streams on two CPUs, and a guest that is busy all the time.
    PlanInput input = input_for(1000);
    input.codecs = {{.name = "zstd", .wire_share = 0.1, .stream_page_rate = 3e8}};
    input.max_streams = 2;
    input.source_cpus = 2;
    const auto idle = make_plan(input);
    input.busy_vcpus = 1;
    const auto busy = make_plan(input);
    ASSERT_TRUE(idle.ok() && busy.ok()) << idle.status() << busy.status();
    EXPECT_NEAR(idle->rows[1].page_rate, 6e8, 1);
    EXPECT_NEAR(busy->rows[1].page_rate, 4e8, 1);
    // In the pause it takes none.
    EXPECT_EQ(busy->rows[0].forecast.strategy, Strategy::kStopAndCopy);
    EXPECT_EQ(busy->rows[0].forecast.downtime_s, idle->rows[0].forecast.downtime_s);
    EXPECT_NEAR(busy->rows[0].page_rate, 6e8, 1);
    input.source_cpus = 3;
    EXPECT_NEAR(make_plan(input)->rows[1].page_rate, 6e8, 1);
    input.busy_vcpus = -1;
    EXPECT_FALSE(make_plan(input).ok());
}

TEST(Chooser, ReckonsWithHowWrongItHasBeen) {
    PlanInput input = input_for(1000);
    const auto sure = make_plan(input);
    input.errors.total = {.low = 0.5, .high = 3};
    const auto wary = make_plan(input);
    const Interval before = sure->rows[1].forecast.total_s;
    const Interval after = wary->rows[1].forecast.total_s;
    EXPECT_EQ(after.mid, before.mid);
    EXPECT_DOUBLE_EQ(after.low, 0.5 * before.mid);
    EXPECT_DOUBLE_EQ(after.high, 3 * before.mid);
    input.finish_by_s = 2 * before.mid;
    EXPECT_FALSE(make_plan(input)->rows[1].holds);
    // Errors within the interval change nothing.
    input.errors.total = {.low = 1, .high = 1};
    EXPECT_EQ(make_plan(input)->rows[1].forecast.total_s, before);
    input.errors.total.high = -1;
    EXPECT_FALSE(make_plan(input).ok());
}

TEST(Chooser, RefusesWhatWasNotMeasured) {
    PlanInput input = input_for(1000);
    input.samples.clear();
    EXPECT_THAT(make_plan(input).status().message(), HasSubstr("no dirty data"));
    input = input_for(1000);
    input.codecs.clear();
    EXPECT_FALSE(make_plan(input).ok());
    input = input_for(1000);
    input.link_rate.low = 0;
    EXPECT_FALSE(make_plan(input).ok());
    input = input_for(1000);
    input.max_streams = 0;
    EXPECT_FALSE(make_plan(input).ok());
}

}  // namespace
}  // namespace godwit
