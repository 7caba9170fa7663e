#include "transport/stream/rate_limiter.h"

#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "tests/unit/transport/random_bytes.h"

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
    EXPECT_EQ(bucket.take(20'000, later), Duration::zero());  // 20 ms
    EXPECT_EQ(bucket.take(kMega, later), Duration::zero());
    EXPECT_EQ(bucket.take(1, later), seconds(1));
}

TEST(TokenBucket, WhatIsChargedIsWaitedForByWhoeverComesNext) {
    TokenBucket bucket(kMega, kStart);
    bucket.charge(2 * kMega, kStart);
    bucket.charge(kMega, kStart);  // in debt already, and charged all the same
    EXPECT_EQ(bucket.take(1, kStart), seconds(3));
    EXPECT_EQ(bucket.take(1, kStart + seconds(3)), Duration::zero());
}

TEST(TokenBucket, AFrameIsBoundedByTheRate) {
    EXPECT_EQ(TokenBucket(12'500'000, kStart).frame_bytes(), 100'000u);
    EXPECT_EQ(TokenBucket(1, kStart).frame_bytes(), TokenBucket::kLeastFrameBytes);
    EXPECT_GT(TokenBucket(0, kStart).frame_bytes(), Bytes{1} << 40);
}

TEST(TokenBucket, ANewRateCountsFromNowOn) {
    TokenBucket bucket(kMega, kStart);
    EXPECT_EQ(bucket.take(4 * kMega, kStart), Duration::zero());
    bucket.set_rate(2 * kMega, kStart + seconds(1));
    EXPECT_EQ(bucket.take(1, kStart + seconds(1)), Duration(seconds(3)) / 2);
    bucket.set_rate(0, kStart + seconds(1));
    EXPECT_EQ(bucket.take(~Bytes{0}, kStart + seconds(1)), Duration::zero());
}

TEST(TokenBucket, ADebtOfAFasterTimeLastsNoLongerThanItWouldHave) {
    TokenBucket bucket(100 * kMega, kStart);
    EXPECT_EQ(bucket.take(200 * kMega, kStart), Duration::zero());
    bucket.set_rate(kMega, kStart);
    EXPECT_EQ(bucket.take(1, kStart), seconds(2));
}

TEST(TokenBucket, ThePauseBeforeALowerRateIsWorthABurstOfThat) {
    TokenBucket bucket(100 * kMega, kStart);
    const MonotonicTime later = kStart + seconds(10);
    bucket.set_rate(kMega, later);
    EXPECT_EQ(bucket.take(kMega, later), Duration::zero());
    EXPECT_EQ(bucket.take(1, later), Duration(seconds(1)) - std::chrono::milliseconds(20));
}

// What a bucket hands out to streams that never have enough: bytes by millisecond.
class Handouts {
  public:
    explicit Handouts(Bytes rate) : bucket_(rate, kStart) {}

    void set_rate(Bytes rate) { bucket_.set_rate(rate, now_); }
    // Streams take turns; one that is told to wait sleeps a little longer than that, as threads do.
    void run_until(MonotonicTime end) {
        while (now_ < end) {
            const Bytes frame = std::min(bucket_.frame_bytes(), kLargestFrame);
            const Bytes bytes = frame - random_below(random_, frame / 2);
            const Duration left = bucket_.take(bytes, now_);
            if (left == Duration::zero())
                note(bytes);
            else
                now_ += left + std::chrono::microseconds(random_below(random_, 2000));
        }
    }
    void idle(Duration pause) { now_ += pause; }
    [[nodiscard]] MonotonicTime now() const { return now_; }

    // Handed out within the second that begins there.
    [[nodiscard]] double second_from(MonotonicTime begin) const {
        Bytes sum = 0;
        for (size_t i = index(begin); i < index(begin) + 1000 && i < by_ms_.size(); ++i)
            sum += by_ms_[i];
        return static_cast<double>(sum);
    }

  private:
    static constexpr Bytes kLargestFrame = 2'101'248;
    static size_t index(MonotonicTime time) {
        return static_cast<size_t>((time - kStart) / std::chrono::milliseconds(1));
    }
    void note(Bytes bytes) {
        if (by_ms_.size() <= index(now_)) by_ms_.resize(index(now_) + 1);
        by_ms_[index(now_)] += bytes;
    }

    TokenBucket bucket_;
    Random random_{1};
    MonotonicTime now_ = kStart;
    std::vector<Bytes> by_ms_;
};

class AccurateTo3Percent : public testing::TestWithParam<Bytes> {};

TEST_P(AccurateTo3Percent, WithinEverySecond) {
    const auto rate = static_cast<double>(GetParam());
    Handouts handouts(GetParam());
    handouts.run_until(kStart + seconds(8));
    for (MonotonicTime t = kStart; t < kStart + seconds(7); t += std::chrono::milliseconds(1)) {
        ASSERT_GE(handouts.second_from(t), 0.97 * rate) << to_ms(t - kStart);
        ASSERT_LE(handouts.second_from(t), 1.03 * rate) << to_ms(t - kStart);
    }
}

TEST_P(AccurateTo3Percent, AfterAPauseAsWell) {
    const auto rate = static_cast<double>(GetParam());
    Handouts handouts(GetParam());
    handouts.run_until(kStart + seconds(2));
    handouts.idle(seconds(30));
    const MonotonicTime resumed = handouts.now();
    handouts.run_until(resumed + seconds(3));
    for (Duration after{}; after < seconds(2); after += std::chrono::milliseconds(1)) {
        ASSERT_GE(handouts.second_from(resumed + after), 0.97 * rate);
        ASSERT_LE(handouts.second_from(resumed + after), 1.03 * rate);
    }
}

TEST_P(AccurateTo3Percent, FromTheMomentOfAChangeOn) {
    for (const double factor : {0.1, 0.5, 3.0}) {
        const auto after = static_cast<Bytes>(factor * static_cast<double>(GetParam()));
        const auto rate = static_cast<double>(after);
        Handouts handouts(GetParam());
        handouts.run_until(kStart + seconds(2));
        const MonotonicTime changed = handouts.now();
        handouts.set_rate(after);
        handouts.run_until(changed + seconds(4));
        // 1 ms: what was handed out in the very millisecond of the change, but before it.
        for (Duration since = std::chrono::milliseconds(1); since < seconds(3);
             since += std::chrono::milliseconds(1)) {
            ASSERT_GE(handouts.second_from(changed + since), 0.97 * rate) << factor;
            ASSERT_LE(handouts.second_from(changed + since), 1.03 * rate) << factor;
        }
    }
}

// 160 Mbit/s … 40 Gbit/s; a tenth of the first is where it ends.
INSTANTIATE_TEST_SUITE_P(Rates, AccurateTo3Percent,
                         testing::Values(20 * kMega, 125 * kMega, 250 * kMega, 1250 * kMega,
                                         5000 * kMega));

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
