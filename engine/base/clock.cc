#include "engine/base/clock.h"

#include <time.h>

namespace godwit {
namespace {

class SystemClock final : public Clock {
  public:
    [[nodiscard]] MonotonicTime now() const override { return std::chrono::steady_clock::now(); }
};

}  // namespace

const Clock& Clock::system() {
    static const SystemClock clock;
    return clock;
}

Duration thread_cpu_time() {
    timespec used{};
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec);
}

}  // namespace godwit
