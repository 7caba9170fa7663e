// The time-stamp counter, the guest's only clock.
#pragma once

#include <cstdint>

namespace godwit::guest {

// Ticks per second as CPUID says, 0 when it does not. In ring 0: in ring 3 a software-assisted KVM
// lets the CPU answer, about the host.
uint64_t tsc_hz_by_cpuid();
// Ticks per second measured against the PIT, in about 30 ms. On the first vCPU.
uint64_t measure_tsc_hz();

// Hands out units at a fixed rate per second. After a pause at most 4 ms worth (or one unit) of
// units is handed out at once; the rest is forgone.
class Pacer {
  public:
    static constexpr uint64_t kCatchUpPerSecond = 250;  // 1/250 s = 4 ms

    // rate 0: never any.
    void start(uint64_t rate, uint64_t tsc_hz, uint64_t now) {
        rate_ = rate;
        next_ = now;
        if (rate == 0) return;
        step_ = tsc_hz / rate;
        step_rest_ = tsc_hz % rate;
        catch_up_ = tsc_hz / kCatchUpPerSecond;
        if (catch_up_ < step_) catch_up_ = step_;
    }
    // How many units (at most `limit`) are due at `now`.
    unsigned take(uint64_t now, unsigned limit) {
        if (rate_ == 0) return 0;
        if (static_cast<int64_t>(now - next_) > static_cast<int64_t>(catch_up_))
            next_ = now - catch_up_;
        unsigned count = 0;
        while (count < limit && static_cast<int64_t>(now - next_) >= 0) {
            ++count;
            next_ += step_;
            rest_ += step_rest_;
            if (rest_ >= rate_) {
                rest_ -= rate_;
                ++next_;
            }
        }
        return count;
    }

  private:
    uint64_t rate_ = 0;
    uint64_t next_ = 0;  // TSC at which the next unit is due
    uint64_t step_ = 0;  // ticks per unit, and the remainder in 1/rate_ ticks
    uint64_t step_rest_ = 0;
    uint64_t rest_ = 0;
    uint64_t catch_up_ = 0;
};

}  // namespace godwit::guest
