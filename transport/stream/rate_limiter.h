// RateLimiter: one bandwidth limit for all streams of a migration (a token bucket).
//
// What passes within any second is the rate, to 3 %, from 16 Mbit/s on: a pause is worth no more
// than kBurst of the rate, and who keeps to frame_bytes() is in debt for no more than kFrame of it.
// A change counts from its moment on.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <stop_token>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"
#include "engine/base/units.h"

namespace godwit {

// The arithmetic, without waiting. Not thread-safe. Time must not run backwards between calls.
class TokenBucket {
  public:
    // What may be sent in one go after a pause; long enough that a thread that wakes late loses
    // nothing.
    static constexpr Duration kBurst = std::chrono::milliseconds(20);
    static constexpr Duration kFrame = std::chrono::milliseconds(8);
    static constexpr Bytes kLeastFrameBytes = 16 << 10;

    // 0: no limit.
    TokenBucket(Bytes bytes_per_second, MonotonicTime now);

    // Nobody waits longer for a debt than before.
    void set_rate(Bytes bytes_per_second, MonotonicTime now);
    [[nodiscard]] Bytes rate() const { return rate_; }
    // What a frame should have at most; without a limit no bound.
    [[nodiscard]] Bytes frame_bytes() const;
    // Takes `bytes` if the bucket is not in debt, and returns zero; it may be in debt afterwards,
    // so that a frame larger than the burst gets through. Else takes nothing and returns how long
    // the debt lasts at this rate.
    Duration take(Bytes bytes, MonotonicTime now);
    // Takes them, in debt or not.
    void charge(Bytes bytes, MonotonicTime now);

  private:
    void refill(MonotonicTime now);
    [[nodiscard]] double most_tokens() const;

    Bytes rate_;
    double tokens_;
    MonotonicTime filled_at_;
};

// Thread-safe.
class RateLimiter {
  public:
    // 0: no limit. `clock` measures; the waiting itself is real.
    explicit RateLimiter(Bytes bytes_per_second, const Clock& clock = Clock::system());

    // Takes effect at once, also for those who wait.
    void set_rate(Bytes bytes_per_second);
    [[nodiscard]] Bytes rate() const;
    // As TokenBucket's.
    [[nodiscard]] Bytes frame_bytes() const;

    // Waits until `bytes` may be sent. Errors: Cancelled when `stop` is asked for, DeadlineExceeded
    // (nothing was taken in either case).
    absl::Status acquire(Bytes bytes, const std::stop_token& stop = {},
                         std::optional<MonotonicTime> deadline = std::nullopt);

    // Counts bytes that are sent without waiting: whoever comes next waits for them as well.
    void charge(Bytes bytes);

  private:
    const Clock& clock_;
    mutable std::mutex mutex_;
    std::condition_variable_any changed_;
    TokenBucket bucket_ GODWIT_GUARDED_BY(mutex_);
    uint64_t rate_changes_ GODWIT_GUARDED_BY(mutex_) = 0;
};

}  // namespace godwit
