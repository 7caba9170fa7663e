// VMs for the simulator, drawn by a seed: the same seed gives the same VM on any machine.
#pragma once

#include <string_view>

#include "engine/model/simulator.h"

namespace godwit {

// Numbers in [0, 1) from a seed: SplitMix64 (Steele et al., OOPSLA'14), the same on every machine.
class Dice {
  public:
    explicit Dice(uint64_t seed) : state_(seed) {}
    double roll();
    double between(double low, double high) { return low + roll() * (high - low); }
    // Every order of magnitude is as likely.
    double log_between(double low, double high);

  private:
    uint64_t state_;
};

struct SyntheticLoad {
    std::string_view pattern = "uniform";  // sequential, uniform, hot-set, zipf, phases, mixed
    double touched_pages = 1 << 18;
    double set_pages = 1 << 15;  // working set
    double writes_per_s = 20'000;
    double noise = 0.02;
    double variation = 0;  // each number of a VM differs by up to this part
};

// The names that synthetic_load_writer() knows.
inline constexpr std::string_view kPatternNames[] = {"sequential", "uniform", "hot-set",
                                                     "zipf",       "phases",  "mixed"};

// Touched pages and writer of one VM. Errors: InvalidArgument (unknown pattern, absurd numbers).
absl::StatusOr<SimulatedVm> synthetic_vm(const SyntheticLoad& load, uint64_t seed);

}  // namespace godwit
