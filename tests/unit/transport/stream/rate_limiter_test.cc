#include "transport/stream/rate_limiter.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

namespace godwit {
namespace {

using std::chrono::seconds;

constexpr Bytes kMega = 1'000'000;
constexpr MonotonicTime kStart{};

TEST(TokenBucket, ADebtLastsAsLongAsItsBytesTakeAtTheRate) {
    TokenBucket bucket(kMega, kStart);
    EXPECT_EQ(bucket.take(3 * kMega, kStart), Duration::zero());
    EXPECT_EQ(bucket.take(1, kStart), seconds(3));
    EXPECT_EQ(bucket.take(1, kStart + seconds(2)), seconds(1));
    EXPECT_EQ(bucket.take(1, kStart + seconds(3)), Duration::zero());
}

TEST(TokenBucket, APauseIsWorthABurstAndNoMore) {
    TokenBucket bucket(kMega, kStart);
    const MonotonicTime later = kStart + seconds(1000);
    EXPECT_EQ(bucket.take(TokenBucket::kBurstBytes, later), Duration::zero());
    EXPECT_EQ(bucket.take(kMega, later), Duration::zero());
    EXPECT_EQ(bucket.take(1, later), seconds(1));
}

TEST(TokenBucket, ANewRateCountsFromNowOn) {
    TokenBucket bucket(kMega, kStart);
    EXPECT_EQ(bucket.take(4 * kMega, kStart), Duration::zero());
    bucket.set_rate(2 * kMega, kStart + seconds(1));
    EXPECT_EQ(bucket.take(1, kStart + seconds(1)), Duration(seconds(3)) / 2);
    bucket.set_rate(0, kStart + seconds(1));
    EXPECT_EQ(bucket.take(~Bytes{0}, kStart + seconds(1)), Duration::zero());
}

TEST(TokenBucket, WhatPassesInALongTimeIsTheRate) {
    TokenBucket bucket(10 * kMega, kStart);
    MonotonicTime now = kStart;
    Bytes passed = 0;
    while (now < kStart + seconds(100)) {
        const Duration left = bucket.take(300'000, now);
        if (left == Duration::zero()) passed += 300'000;
        now += left;
    }
    EXPECT_NEAR(static_cast<double>(passed), 1000.0 * kMega, 0.01 * 1000 * kMega);
}

// Every look at this clock is a second later than the one before.
class StridingClock : public Clock {
  public:
    [[nodiscard]] MonotonicTime now() const override { return now_ += seconds(1); }

  private:
    mutable MonotonicTime now_{};
};

TEST(RateLimiter, WaitsUntilTheClockSaysThatTheDebtIsPaid) {
    const StridingClock clock;
    RateLimiter limiter(kMega, clock);
    EXPECT_TRUE(limiter.acquire(50 * kMega).ok());
    const MonotonicTime before = clock.now();
    EXPECT_TRUE(limiter.acquire(1).ok());
    EXPECT_GE(clock.now() - before, seconds(40));
}

TEST(RateLimiter, TakesNothingWhenTheDeadlinePasses) {
    const StridingClock clock;
    RateLimiter limiter(kMega, clock);
    EXPECT_TRUE(limiter.acquire(50 * kMega).ok());
    EXPECT_TRUE(
        absl::IsDeadlineExceeded(limiter.acquire(1000 * kMega, {}, clock.now() + seconds(5))));
    EXPECT_TRUE(limiter.acquire(1, {}, clock.now() + seconds(100)).ok());
}

TEST(RateLimiter, StopEndsEveryWaiterNowAndLater) {
    RateLimiter limiter(1);
    ASSERT_TRUE(limiter.acquire(kMega).ok());
    std::vector<std::jthread> waiters;
    for (size_t i = 0; i < 3; ++i)
        waiters.emplace_back([&] { EXPECT_TRUE(absl::IsCancelled(limiter.acquire(1))); });
    limiter.stop();
    waiters.clear();
    EXPECT_TRUE(absl::IsCancelled(limiter.acquire(1)));
}

TEST(RateLimiter, AStopTokenEndsItsOwnWaiterOnly) {
    RateLimiter limiter(1);
    ASSERT_TRUE(limiter.acquire(kMega).ok());
    std::jthread waiter([&](const std::stop_token& stop) {
        EXPECT_TRUE(absl::IsCancelled(limiter.acquire(1, stop)));
    });
    waiter.request_stop();
    waiter.join();
    limiter.set_rate(0);
    EXPECT_TRUE(limiter.acquire(1).ok());
}

TEST(RateLimiter, ANewRateReachesThoseWhoWaitForTheOldOne) {
    RateLimiter limiter(1);
    ASSERT_TRUE(limiter.acquire(1000 * kMega).ok());
    std::jthread waiter([&] { EXPECT_TRUE(limiter.acquire(1).ok()); });
    limiter.set_rate(0);
}

}  // namespace
}  // namespace godwit
