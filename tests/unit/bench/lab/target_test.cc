#include "bench/lab/target.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::ContainsRegex;

std::vector<Results> target_results() {
    return {{.engine = "ours",
             .runs = {{{"total_ms", 100}, {"cpu_s", 1}},
                      {{"total_ms", 300}, {"cpu_s", 3}},
                      {{"total_ms", 200}, {"cpu_s", 2}}}},
            {.engine = "slow", .runs = {{{"total_ms", 900}, {"cpu_s", 1}}}},
            {.engine = "fast", .runs = {{{"total_ms", 500}, {"cpu_s", 5}}}},
            {.engine = "broken", .failed = 1}};
}

Target faster(double bound) {
    return {.metric = "total_ms",
            .ours = "ours",
            .peers = {"slow", "fast", "broken", "absent"},
            .kind = Bound::kAtLeast,
            .bound = bound};
}

TEST(Target, IsMeasuredAgainstTheFastestPeer) {
    const Judgement judgement = judge(faster(2.5), target_results());
    EXPECT_EQ(judgement.peer, "fast");
    EXPECT_DOUBLE_EQ(judgement.ratio.value(), 2.5);
    EXPECT_TRUE(judgement.met(faster(2.5)));
    EXPECT_FALSE(judgement.met(faster(2.6)));
}

TEST(Target, AnotherMetricIsStillThatOfTheFastest) {
    const Target cpu{.metric = "cpu_s", .ours = "ours", .peers = {"slow", "fast"}, .bound = 0.4};
    const Judgement judgement = judge(cpu, target_results());
    EXPECT_DOUBLE_EQ(judgement.ratio.value(), 0.4);
    EXPECT_TRUE(judgement.met(cpu));
}

TEST(Target, WithoutOneSideNothingIsMet) {
    Target target = faster(0);
    target.peers = {"broken"};
    EXPECT_FALSE(judge(target, target_results()).ratio.has_value());
    EXPECT_FALSE(judge(target, target_results()).met(target));
    target = faster(0);
    target.ours = "absent";
    EXPECT_FALSE(judge(target, target_results()).met(target));
}

TEST(Target, IsMissedWhenARunFailed) {
    std::vector<Results> results = target_results();
    results[0].failed = 1;
    EXPECT_FALSE(judge(faster(2.5), results).met(faster(2.5)));
    EXPECT_THAT(render_targets({faster(2.5)}, results), ContainsRegex("missed \\(1 failed\\)\n"));
    results[0].missing = true;
    EXPECT_TRUE(judge(faster(2.5), results).met(faster(2.5)));
}

TEST(Target, IsPrintedAsAFact) {
    EXPECT_THAT(render_targets({faster(2.5)}, target_results()),
                ContainsRegex("total_ms +fast / ours +2\\.50 +at least 2\\.5: met\n"));
    EXPECT_THAT(render_targets({faster(3)}, target_results()),
                ContainsRegex("at least 3: missed\n"));
    Target nobody = faster(3);
    nobody.peers = {"broken"};
    EXPECT_THAT(render_targets({nobody}, target_results()),
                ContainsRegex("broken / ours +- +at least 3: not measured\n"));
}

}  // namespace
}  // namespace godwit
