#include <gtest/gtest.h>

#include "bench/lab/measure.h"

namespace godwit {
namespace {

constexpr std::chrono::microseconds kPeriod{100};

MonotonicTime at_ms(double ms) {
    return MonotonicTime(
        std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::milli>(ms)));
}

Stillness still(double begin_ms, double end_ms, uint64_t tick) {
    return {at_ms(begin_ms), at_ms(end_ms), tick};
}

// 100 ms, ten ticks a millisecond, but for 5 ms before the handover, 10 ms of it and 3 ms after it.
BlackoutReport moved() {
    BlackoutReport report;
    report.first_tick = 1000;
    report.first_time = at_ms(0);
    report.last_tick = 1000 + 820;
    report.last_time = at_ms(100);
    report.stalls = {still(20, 25, 1200), still(50, 60, 1450), still(80, 83, 1650)};
    report.handover = report.longest = report.stalls[1];
    return report;
}

TEST(StallMetrics, CutWhereTheGuestChangedSides) {
    const Metrics metrics = stall_metrics(moved(), kPeriod, 10);
    EXPECT_NEAR(metrics.at("blackout_ms"), 10, 1e-6);
    EXPECT_NEAR(metrics.at("stall_ms"), 13 - 0.2, 1e-6);
    EXPECT_NEAR(metrics.at("longest_stall_ms"), 9.9, 1e-6);
    EXPECT_EQ(metrics.at("stalls"), 2);
    EXPECT_NEAR(metrics.at("live_stall_ms"), 4.9, 1e-6);
    EXPECT_NEAR(metrics.at("lost_ms"), 50 - 37, 1e-6);
    EXPECT_NEAR(metrics.at("live_lost_ms"), 5, 1e-6);
}

TEST(StallMetrics, AHandoverIsOneEvenWhenAnotherStillnessIsLonger) {
    BlackoutReport report = moved();
    report.stalls.push_back(still(85, 98, 1670));
    report.longest = report.stalls.back();
    const Metrics metrics = stall_metrics(report, kPeriod, 10);
    EXPECT_NEAR(metrics.at("blackout_ms"), 10, 1e-6);
    EXPECT_NEAR(metrics.at("longest_stall_ms"), 12.9, 1e-6);
}

TEST(StallMetrics, WithOneSourceTheLongestStallIsTheHandoverAndNoHiccupOfTheSampler) {
    BlackoutReport report = moved();
    report.handover.reset();
    report.longest = still(61, 79, 1460);
    EXPECT_NEAR(stall_metrics(report, kPeriod, 10).at("blackout_ms"), 10, 1e-6);
}

}  // namespace
}  // namespace godwit
