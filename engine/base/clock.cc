#include "engine/base/clock.h"

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

}  // namespace godwit
