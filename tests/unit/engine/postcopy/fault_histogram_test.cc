#include "engine/postcopy/fault_histogram.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace godwit {
namespace {

using std::chrono::nanoseconds;

TEST(FaultHistogram, BucketsFollowEachOtherWithoutAGap) {
    for (size_t bucket = 0; bucket + 2 < kFaultBuckets; ++bucket) {
        const nanoseconds end = fault_bucket_end(bucket);
        EXPECT_EQ(fault_bucket(end - nanoseconds(1)), bucket);
        EXPECT_EQ(fault_bucket(end), bucket + 1);
        EXPECT_LT(end, fault_bucket_end(bucket + 1));
    }
    EXPECT_EQ(fault_bucket(nanoseconds(int64_t{1} << 40)), kFaultBuckets - 1);
    EXPECT_EQ(fault_bucket(nanoseconds::max()), kFaultBuckets - 1);
    EXPECT_EQ(fault_bucket(nanoseconds(-5)), 0u);
}

TEST(FaultHistogram, PercentilesAreWithinASixteenthOfTheTruth) {
    std::mt19937_64 random(7);
    std::lognormal_distribution<double> latency(11, 0.8);  // around 60 µs
    FaultBuckets buckets{};
    std::vector<int64_t> all;
    for (int i = 0; i < 20'000; ++i) {
        all.push_back(static_cast<int64_t>(latency(random)));
        ++buckets[fault_bucket(nanoseconds(all.back()))];
    }
    std::sort(all.begin(), all.end());
    const FaultPercentiles found = fault_percentiles(buckets, nanoseconds(all.back()));
    const auto expect_close = [&](nanoseconds value, double part) {
        const auto truth = static_cast<double>(
            all[static_cast<size_t>(part * static_cast<double>(all.size())) - 1]);
        EXPECT_NEAR(static_cast<double>(value.count()), truth, truth * 0.0626) << part;
    };
    expect_close(found.p50, 0.5);
    expect_close(found.p90, 0.9);
    expect_close(found.p99, 0.99);
    expect_close(found.p99_9, 0.999);
    EXPECT_EQ(found.count, all.size());
    EXPECT_EQ(found.max.count(), all.back());
}

TEST(FaultHistogram, OfNothingIsZero) {
    const FaultPercentiles found = fault_percentiles({}, {});
    EXPECT_EQ(found.count, 0u);
    EXPECT_EQ(found.p99_9.count(), 0);
}

TEST(FaultHistogram, NoPercentileIsAboveTheLargestLatency) {
    FaultBuckets buckets{};
    ++buckets[fault_bucket(nanoseconds(1'000'001))];
    EXPECT_EQ(fault_percentiles(buckets, nanoseconds(1'000'001)).p50.count(), 1'000'001);
    ++buckets[kFaultBuckets - 1];
    EXPECT_EQ(fault_percentiles(buckets, nanoseconds(int64_t{1} << 41)).p99.count(),
              int64_t{1} << 41);
}

}  // namespace
}  // namespace godwit
