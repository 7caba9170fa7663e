#include "engine/model/dirty_curve.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace godwit {
namespace {

constexpr double kTouchedPages = 1 << 20;

// A guest that writes `rate` pages per second anywhere in a set of `set` pages.
double uniform(double window_s, double set, double rate) {
    return set * (1 - std::exp(-rate * window_s / set));
}

std::vector<DirtySample> noisy_samples(uint64_t seed, double set, double rate) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> noise(1, 0.05);
    std::vector<DirtySample> samples;
    for (double window = 0.05; window < 5; window *= 2)
        for (int i = 0; i < 8; ++i)
            samples.push_back({window, std::max(0.0, uniform(window, set, rate) * noise(random))});
    return samples;
}

TEST(DirtyCurve, IsMonotoneAndConcaveWhateverTheNoise) {
    for (uint64_t seed = 0; seed < 200; ++seed) {
        const auto curves = fit_dirty_curves(noisy_samples(seed, 50'000, 30'000), kTouchedPages);
        ASSERT_TRUE(curves.ok());
        for (const DirtyCurve& curve : {curves->low, curves->mid, curves->high}) {
            EXPECT_EQ(curve.pages(0), 0);
            double slope_before = std::numeric_limits<double>::infinity();
            for (double t = 0; t < 10; t += 0.05) {
                const double slope = curve.pages(t + 0.05) - curve.pages(t);
                EXPECT_GE(slope, -1e-9);
                EXPECT_LE(slope, slope_before + 1e-6);
                slope_before = slope;
            }
        }
        for (double t = 0.1; t < 3; t += 0.1)  // within what was sampled
            EXPECT_NEAR(curves->mid.pages(t), uniform(t, 50'000, 30'000),
                        0.12 * uniform(t, 50'000, 30'000));
    }
}

TEST(DirtyCurve, GoesOnLinearlyBeyondItsLastPointUpToTheTouchedPages) {
    const auto curve = DirtyCurve::through({{1, 100}, {2, 150}}, 1000);
    EXPECT_DOUBLE_EQ(curve->pages(0.5), 50);
    EXPECT_DOUBLE_EQ(curve->pages(1.5), 125);
    EXPECT_DOUBLE_EQ(curve->pages(4), 250);
    EXPECT_DOUBLE_EQ(curve->pages(1e6), 1000);
    EXPECT_NEAR(curve->mean_pages(1), 50, 1e-6);
}

TEST(DirtyCurve, UnhinderedBendsWhereNoPageIsNewAnyMore) {
    // 10 us a page, of which 4 are the first write's; from 0.5 s on all 50,000 are dirty.
    const auto curve = DirtyCurve::through({{0.1, 10'000}, {0.5, 50'000}, {1, 50'000}}, 100'000);
    const DirtyCurve faster = curve->unhindered(4e-6);
    EXPECT_DOUBLE_EQ(curve->first_write(4e-6), 4e-6);
    EXPECT_NEAR(faster.pages(0.06), 10'000, 1e-6);
    EXPECT_NEAR(faster.pages(0.3), 50'000, 1e-6);
    EXPECT_NEAR(faster.pages(10), 50'000, 1e-6);
    EXPECT_EQ(curve->unhindered(0).pages(0.3), curve->pages(0.3));
}

TEST(DirtyCurve, AFirstWriteTakesTwoThirdsOfTheTimeAtMost) {
    const auto curve = DirtyCurve::through({{0.1, 10'000}, {1, 50'000}}, 100'000);
    EXPECT_NEAR(curve->first_write(1), 10e-6 * 2 / 3, 1e-12);
    EXPECT_NEAR(curve->unhindered(1).pages(0.1 / 3), 10'000, 1e-6);
    EXPECT_EQ(DirtyCurve().first_write(1), 0);
    EXPECT_EQ(DirtyCurve().unhindered(1).pages(1), 0);
    // Even where more is written later than at first, time does not run back.
    const auto late = DirtyCurve::through({{1, 1}, {1.1, 90'000}, {2, 100'000}}, 100'000);
    double before = 0;
    const DirtyCurve faster = late->unhindered(1);
    for (const DirtyCurve::Point& point : faster.points()) {
        EXPECT_GT(point.window_s, before);
        before = point.window_s;
    }
}

TEST(DirtyCurve, OfAnIdleGuestIsZero) {
    const std::vector<DirtySample> samples{{0.1, 0}, {1, 0}};
    const auto curves = fit_dirty_curves(samples, kTouchedPages);
    ASSERT_TRUE(curves.ok());
    EXPECT_EQ(curves->high.pages(1e6), 0);
}

TEST(DirtyCurve, RefusesWhatIsNoMeasurement) {
    const double nan = std::numeric_limits<double>::quiet_NaN();
    EXPECT_EQ(fit_dirty_curves({}, kTouchedPages).status().message(),
              "There is no dirty data to predict from: sample for longer");
    for (const DirtySample bad :
         {DirtySample{0, 1}, DirtySample{-1, 1}, DirtySample{1, -1}, DirtySample{nan, 1},
          DirtySample{1, nan}, DirtySample{1, 1e300}}) {
        EXPECT_FALSE(fit_dirty_curves(std::vector{bad}, kTouchedPages).ok());
    }
    EXPECT_FALSE(fit_dirty_curves(std::vector<DirtySample>{{1, 1}}, nan).ok());
    EXPECT_FALSE(DirtyCurve::through({{2, 1}, {1, 2}}, 10).ok());
}

}  // namespace
}  // namespace godwit
