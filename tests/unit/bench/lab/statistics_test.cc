#include "bench/lab/statistics.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "bench/lab/series.h"

namespace godwit {
namespace {

TEST(Statistics, TheMedianOfAnEvenNumberLiesBetweenTheMiddleTwo) {
    EXPECT_DOUBLE_EQ(*median({4, 1, 3, 2}), 2.5);
    EXPECT_DOUBLE_EQ(*median({3, 1, 2}), 2);
}

TEST(Statistics, AQuantileIsInterpolatedAndItsEndsAreTheExtremes) {
    EXPECT_DOUBLE_EQ(*quantile({10, 20, 30, 40, 50}, 0.9), 46);
    EXPECT_DOUBLE_EQ(*quantile({10, 20}, 0), 10);
    EXPECT_DOUBLE_EQ(*quantile({10, 20}, 1), 20);
    EXPECT_DOUBLE_EQ(*quantile({7}, 0.9), 7);
}

TEST(Statistics, NothingHasNoMedianAndNoRatio) {
    EXPECT_FALSE(median({}).has_value());
    EXPECT_FALSE(ratio(std::nullopt, 1).has_value());
    EXPECT_FALSE(ratio(1, 0).has_value());
    EXPECT_DOUBLE_EQ(*ratio(3, 2), 1.5);
}

TEST(Statistics, RunsThatLackAMetricAreLeftOut) {
    const std::vector<Metrics> runs{{{"a", 1}}, {{"b", 5}}, {{"a", 3}}};
    EXPECT_EQ(values_of(runs, "a"), (std::vector<double>{1, 3}));
    EXPECT_TRUE(values_of(runs, "c").empty());
}

TEST(Statistics, LostTimeIsWhatTheTicksAreShortOf) {
    EXPECT_DOUBLE_EQ(lost_ms(100, 900, 10), 10);
    EXPECT_DOUBLE_EQ(lost_ms(100, 1100, 10), -10);
    EXPECT_DOUBLE_EQ(lost_ms(100, 900, 0), 0);
}

TEST(Statistics, TheOrderOfARepeatFollowsFromTheSeedAndHasEveryEngineOnce) {
    const auto order = shuffled(6, 42, 3);
    EXPECT_EQ(order, shuffled(6, 42, 3));
    auto sorted = order;
    std::sort(sorted.begin(), sorted.end());
    EXPECT_EQ(sorted, (std::vector<size_t>{0, 1, 2, 3, 4, 5}));
    bool another = false;
    for (int repeat = 0; repeat < 3; ++repeat) another |= shuffled(6, 42, repeat) != order;
    EXPECT_TRUE(another);
}

}  // namespace
}  // namespace godwit
