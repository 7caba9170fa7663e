#include "engine/model/geometric.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace godwit {
namespace {

// 4 GiB at 1 GB/s; r is given by the dirty rate.
GeometricInput with_r(double r) {
    return {.memory_bytes = 4.0 * (1 << 30),
            .page_rate = 1e9,
            .dirty_pages_per_s = r * 1e9 / 4096,
            .downtime_limit_s = 0.05,
            .fixed_cost_s = 0.01};
}

TEST(Geometric, IsTheFormula) {
    const auto forecast = geometric_precopy(with_r(0.5));
    ASSERT_TRUE(forecast.ok());
    const double vm_s = 4.0 * (1 << 30) / 1e9;
    const double n = std::ceil(std::log(0.04 * 1e9 / (4.0 * (1 << 30))) / std::log(0.5));
    EXPECT_EQ(forecast->rounds, n);
    EXPECT_NEAR(forecast->downtime_s, std::pow(0.5, n) * vm_s + 0.01, 1e-9);
    EXPECT_NEAR(forecast->total_s, vm_s * (1 - std::pow(0.5, n + 1)) / (1 - 0.5) + 0.01, 1e-9);
    EXPECT_TRUE(forecast->converges);
}

TEST(Geometric, CopiesOnceWhereNothingIsWritten) {
    const auto forecast = geometric_precopy(with_r(0));
    EXPECT_EQ(forecast->rounds, 1u);
    EXPECT_NEAR(forecast->downtime_s, 0.01, 1e-12);
    EXPECT_TRUE(forecast->converges);
}

TEST(Geometric, ComesToTheLimitAtRatioOneFromBothSides) {
    for (const double r : {1 - 1e-12, 1.0, 1 + 1e-12, 1.5, 1e6}) {
        const auto forecast = geometric_precopy(with_r(r));
        ASSERT_TRUE(forecast.ok()) << r;
        EXPECT_EQ(forecast->rounds, 30u) << r;
        EXPECT_NEAR(forecast->total_s, 31 * 4.0 * (1 << 30) / 1e9 + 0.01, 1e-6) << r;
        EXPECT_FALSE(forecast->converges) << r;
    }
}

TEST(Geometric, PausesLongerTheMoreIsWritten) {
    double before = 0;
    for (double r = 0; r < 3; r += 0.01) {
        GeometricInput input = with_r(r);
        input.max_rounds = 5;
        input.downtime_limit_s = 0;
        const auto forecast = geometric_precopy(input);
        ASSERT_TRUE(forecast.ok());
        EXPECT_GE(forecast->total_s, r == 0 ? 0 : before) << r;
        before = forecast->total_s;
    }
}

TEST(Geometric, IsForOneVmWhatItIsForAGroupOfOne) {
    const auto one = geometric_precopy(with_r(0.3));
    for (const auto& group : {geometric_serial(with_r(0.3), 1), geometric_parallel(with_r(0.3), 1),
                              geometric_k_at_a_time(with_r(0.3), 1, 4)}) {
        EXPECT_DOUBLE_EQ(group->total_s, one->total_s);
        EXPECT_DOUBLE_EQ(group->downtime_s, one->downtime_s);
    }
}

// FIELD: eight 8 GiB VMs at 30,000 pages/s over 10 Gb/s: 256 s in parallel, 61 s in series.
TEST(Geometric, SaysThatParallelRunsMayTakeFourTimesAsLong) {
    const GeometricInput input{.memory_bytes = 8.0 * (1 << 30),
                               .page_rate = 1.25e9,
                               .dirty_pages_per_s = 30'000,
                               .downtime_limit_s = 0.3};
    EXPECT_NEAR(geometric_serial(input, 8)->total_s, 61, 1);
    EXPECT_GT(geometric_parallel(input, 8)->total_s, 4 * geometric_serial(input, 8)->total_s);
    EXPECT_TRUE(geometric_serial(input, 8)->converges);
    EXPECT_TRUE(geometric_parallel(input, 8)->converges);
}

TEST(Geometric, RunsInParallelOnlyBelowOneMth) {
    EXPECT_TRUE(geometric_parallel(with_r(0.24), 4)->converges == false);  // 30 rounds are too few
    EXPECT_TRUE(geometric_parallel(with_r(0.2), 4)->converges);
    EXPECT_FALSE(geometric_parallel(with_r(0.25), 4)->converges);
    EXPECT_EQ(*geometric_most_at_a_time(with_r(0.25), 8), 3u);
    EXPECT_EQ(*geometric_most_at_a_time(with_r(0), 8), 8u);
    EXPECT_EQ(*geometric_most_at_a_time(with_r(2), 8), 0u);
}

TEST(Geometric, RefusesAbsurdNumbers) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    const double inf = std::numeric_limits<double>::infinity();
    for (const double bad : {0.0, -1.0, nan, inf, 1e300}) {
        GeometricInput input = with_r(0.5);
        input.page_rate = bad;
        EXPECT_EQ(geometric_precopy(input).status().code(), absl::StatusCode::kInvalidArgument);
        input = with_r(0.5);
        input.memory_bytes = bad;
        EXPECT_FALSE(geometric_precopy(input).ok());
        input = with_r(0.5);
        input.dirty_pages_per_s = bad == 0 ? -1 : bad;
        EXPECT_FALSE(geometric_precopy(input).ok());
    }
    GeometricInput input = with_r(0.5);
    input.max_rounds = 0;
    EXPECT_FALSE(geometric_precopy(input).ok());
    EXPECT_FALSE(geometric_serial(with_r(0.5), 0).ok());
    EXPECT_FALSE(geometric_k_at_a_time(with_r(0.5), 2, 0).ok());
}

}  // namespace
}  // namespace godwit
