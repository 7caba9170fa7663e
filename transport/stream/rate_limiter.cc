#include "transport/stream/rate_limiter.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <utility>

namespace godwit {
namespace {

using Seconds = std::chrono::duration<double>;

// The longest that is waited at once; then the bucket is asked again.
constexpr Duration kMaxWait = std::chrono::hours(1);

}  // namespace

TokenBucket::TokenBucket(Bytes bytes_per_second, MonotonicTime now)
    : rate_(bytes_per_second), tokens_(0), filled_at_(now) {}

double TokenBucket::most_tokens() const {
    return Seconds(kBurst).count() * static_cast<double>(rate_);
}

Bytes TokenBucket::frame_bytes() const {
    if (rate_ == 0) return std::numeric_limits<Bytes>::max();
    const double bytes = Seconds(kFrame).count() * static_cast<double>(rate_);
    return std::max(static_cast<Bytes>(bytes), kLeastFrameBytes);
}

void TokenBucket::refill(MonotonicTime now) {
    if (now > filled_at_) {
        const double filled = Seconds(now - filled_at_).count() * static_cast<double>(rate_);
        tokens_ = std::min(tokens_ + filled, most_tokens());
        filled_at_ = now;
    }
}

void TokenBucket::set_rate(Bytes bytes_per_second, MonotonicTime now) {
    refill(now);
    const Bytes before = std::exchange(rate_, bytes_per_second);
    // A debt of a limited time is forgiven, and one of a faster time lasts as long as it would
    // have.
    if (before == 0 || rate_ == 0)
        tokens_ = 0;
    else if (tokens_ < 0 && rate_ < before)
        tokens_ *= static_cast<double>(rate_) / static_cast<double>(before);
    tokens_ = std::min(tokens_, most_tokens());
}

Duration TokenBucket::take(Bytes bytes, MonotonicTime now) {
    if (rate_ == 0) return Duration::zero();
    refill(now);
    if (tokens_ >= 0) {
        tokens_ -= static_cast<double>(bytes);
        return Duration::zero();
    }
    const Seconds debt(-tokens_ / static_cast<double>(rate_));
    if (debt > Seconds(kMaxWait)) return kMaxWait;
    // Never zero: that means taken.
    return std::max(std::chrono::duration_cast<Duration>(debt), Duration(1));
}

void TokenBucket::charge(Bytes bytes, MonotonicTime now) {
    if (rate_ == 0) return;
    refill(now);
    tokens_ -= static_cast<double>(bytes);
}

RateLimiter::RateLimiter(Bytes bytes_per_second, const Clock& clock)
    : clock_(clock), bucket_(bytes_per_second, clock.now()) {}

void RateLimiter::set_rate(Bytes bytes_per_second) {
    const std::lock_guard lock(mutex_);
    bucket_.set_rate(bytes_per_second, clock_.now());
    ++rate_changes_;
    changed_.notify_all();
}

Bytes RateLimiter::rate() const {
    const std::lock_guard lock(mutex_);
    return bucket_.rate();
}

Bytes RateLimiter::frame_bytes() const {
    const std::lock_guard lock(mutex_);
    return bucket_.frame_bytes();
}

absl::Status RateLimiter::acquire(Bytes bytes, const std::stop_token& stop,
                                  std::optional<MonotonicTime> deadline) {
    std::unique_lock lock(mutex_);
    while (true) {
        if (stop.stop_requested())
            return absl::CancelledError("waiting for bandwidth was cancelled");
        const MonotonicTime now = clock_.now();
        const Duration left = bucket_.take(bytes, now);
        if (left == Duration::zero()) return absl::OkStatus();
        if (deadline && now >= *deadline)
            return absl::DeadlineExceededError("waiting for bandwidth took too long");
        MonotonicTime until = now + left;
        if (deadline) until = std::min(until, *deadline);
        changed_.wait_until(lock, stop, until,
                            [this, seen = rate_changes_] { return rate_changes_ != seen; });
    }
}

void RateLimiter::charge(Bytes bytes) {
    const std::lock_guard lock(mutex_);
    bucket_.charge(bytes, clock_.now());
}

}  // namespace godwit
