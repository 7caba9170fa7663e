#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/run/measure_move.h"

namespace godwit {
namespace {

using ::testing::Contains;
using ::testing::Key;
using ::testing::Not;

// A point each 100 ms; 10 ticks per ms for ten seconds, then 20.
std::vector<TracePoint> trace(int seconds) {
    std::vector<TracePoint> points;
    uint64_t tick = 0;
    for (int i = 0; i <= 10 * seconds; ++i) {
        points.push_back({MonotonicTime() + std::chrono::milliseconds(100 * i), tick});
        tick += i < 100 ? 1000 : 2000;
    }
    return points;
}

TEST(Pace, IsTicksPerMillisecondSinceThePointBefore) {
    const auto series = pace_series(trace(20), MonotonicTime() + std::chrono::seconds(1), 1000);
    ASSERT_EQ(series.size(), 200U);
    EXPECT_EQ(series[0][0], -900);
    EXPECT_EQ(series[0][1], 10);
    EXPECT_EQ(series[199][1], 20);
}

TEST(Pace, ManyPointsBecomeFew) {
    EXPECT_LE(pace_series(trace(20), {}, 50).size(), 50U);
    EXPECT_TRUE(pace_series({}, {}, 50).empty());
    EXPECT_TRUE(pace_series(trace(1), {}, 0).empty());
}

TEST(Pace, AfterTheMoveIsToldAsFarAsItWasWatched) {
    const Metrics metrics = pace_after(trace(20));
    EXPECT_NEAR(metrics.at("after_0_10_ticks_per_ms"), 10, 0.2);
    EXPECT_NEAR(metrics.at("after_10_30_ticks_per_ms"), 20, 0.2);
    EXPECT_THAT(metrics, Not(Contains(Key("after_30_90_ticks_per_ms"))));
    EXPECT_TRUE(pace_after({}).empty());
}

}  // namespace
}  // namespace godwit
