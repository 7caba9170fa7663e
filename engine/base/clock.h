// Time: the monotonic clock, as a seam that tests can replace.
#pragma once

#include <chrono>

namespace godwit {

using MonotonicTime = std::chrono::steady_clock::time_point;
using Duration = std::chrono::nanoseconds;

class Clock {
  public:
    virtual ~Clock() = default;
    [[nodiscard]] virtual MonotonicTime now() const = 0;
    // CLOCK_MONOTONIC of this host; lives for ever, thread-safe.
    static const Clock& system();
};

// CPU time of the calling thread so far: CLOCK_THREAD_CPUTIME_ID.
Duration thread_cpu_time();

}  // namespace godwit
