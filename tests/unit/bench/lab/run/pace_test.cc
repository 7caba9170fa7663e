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

TEST(Pace, AfterTheMoveIsToldOfTheWindowsThatWereWatchedWhole) {
    const MonotonicTime begin;
    const Metrics metrics = pace_after(trace(30), begin);
    EXPECT_NEAR(metrics.at("after_0_10_ticks_per_ms"), 10, 0.01);
    EXPECT_NEAR(metrics.at("after_10_30_ticks_per_ms"), 20, 0.01);
    EXPECT_THAT(metrics, Not(Contains(Key("after_30_90_ticks_per_ms"))));
    EXPECT_THAT(pace_after(trace(29), begin), Not(Contains(Key("after_10_30_ticks_per_ms"))));
    EXPECT_TRUE(pace_after({}, begin).empty());
}

TEST(Pace, AfterTheMoveIsCountedFromItsEnd) {
    const Metrics metrics = pace_after(trace(20), MonotonicTime() + std::chrono::seconds(5));
    EXPECT_NEAR(metrics.at("after_0_10_ticks_per_ms"), 15, 0.01);
    // It was watched from 0 s on, so from its 5th second nothing is known of what was before.
    EXPECT_TRUE(pace_after(trace(20), MonotonicTime() - std::chrono::seconds(5)).empty());
}

TEST(Pace, WritesAreCountedWithoutTheTimeInWhichNoneCouldBe) {
    const auto at = [](int ms, uint64_t writes) {
        return WriteCount{MonotonicTime() + std::chrono::milliseconds(ms), writes};
    };
    const Metrics metrics =
        write_metrics({at(0, 500), at(1000, 20'500)}, {at(1000, 20'500), at(3100, 56'500)},
                      std::chrono::milliseconds(100));
    EXPECT_DOUBLE_EQ(metrics.at("before_writes_per_s"), 20'000);
    EXPECT_DOUBLE_EQ(metrics.at("during_writes_per_s"), 18'000);
    EXPECT_NEAR(metrics.at("write_slowdown_percent"), 10, 1e-9);
    EXPECT_TRUE(write_metrics({at(0, 0), at(1, 0)}, {at(1, 0), at(2, 0)}, {}).empty());
}

TEST(Pace, OfAnIdleGuestNoPauseIsToldThatMayBeTheGapBetweenTwoLooks) {
    const Metrics seen{{"total_ms", 90},    {"blackout_ms", 30}, {"stall_ms", 20},
                       {"stalls", 2},       {"lost_ms", 12},     {"slowdown_percent", 8},
                       {"live_stall_ms", 3}};
    Metrics metrics = seen;
    keep_of_idle(10, 10, metrics);
    EXPECT_EQ(metrics, (Metrics{{"total_ms", 90}}));
    metrics = seen;
    keep_of_idle(1, 5, metrics);
    EXPECT_EQ(metrics, (Metrics{{"total_ms", 90}, {"blackout_ms", 30}}));
}

BlackoutReport watched() {
    BlackoutReport report;
    report.trace = trace(20);
    report.first_time = report.trace.front().at;
    report.last_time = report.trace.back().at;
    report.last_tick = report.trace.back().tick;
    const auto at = [](int seconds) { return MonotonicTime() + std::chrono::seconds(seconds); };
    report.stalls = {{at(0), at(1), 1}, {at(3), at(4), 2}, {at(13), at(14), 3}};
    return report;
}

TEST(SeenBetween, IsCutAtBothEnds) {
    const MonotonicTime begin = MonotonicTime() + std::chrono::milliseconds(2050);
    const MonotonicTime end = MonotonicTime() + std::chrono::seconds(11);
    const BlackoutReport seen = seen_between(watched(), begin, end);
    EXPECT_EQ(seen.first_time, begin);
    EXPECT_EQ(seen.first_tick, 20'500U);  // half way between two points
    EXPECT_EQ(seen.last_time, end);
    EXPECT_EQ(seen.last_tick, 120'000U);
    ASSERT_EQ(seen.stalls.size(), 1U);
    EXPECT_EQ(seen.stalls[0].tick, 2U);
}

TEST(SeenBetween, ReachesToTheFirstTurnAtTheDestination) {
    BlackoutReport report = watched();
    report.handover = report.stalls[2];
    const BlackoutReport seen =
        seen_between(report, MonotonicTime(), MonotonicTime() + std::chrono::milliseconds(13'500));
    EXPECT_EQ(seen.last_time, report.handover->end);
    EXPECT_EQ(seen.stalls.size(), 3U);
}

TEST(SeenBetween, WithoutATraceAllIsKept) {
    BlackoutReport report = watched();
    report.trace.clear();
    EXPECT_EQ(seen_between(report, {}, MonotonicTime() + std::chrono::seconds(1)).last_tick,
              report.last_tick);
}

}  // namespace
}  // namespace godwit
