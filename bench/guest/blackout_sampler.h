// BlackoutSampler: how long a guest stood still as seen from outside, while it moves from one RAM
// file to another.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"

namespace godwit {

struct BlackoutReport {
    // Longest time from a sample that showed a new tick to the next one that did. The guest stood
    // still that long, give or take one sample gap at either end.
    uint64_t longest_ns = 0;
    // Longest time between two consecutive samples: the sampler's own hiccups.
    uint64_t longest_sample_gap_ns = 0;
    uint64_t samples = 0;
    uint64_t new_ticks = 0;  // samples that showed a new tick
    uint64_t last_tick = 0;  // the largest tick seen
};

struct BlackoutOptions {
    std::string source_path;
    std::string destination_path;  // may not exist yet, may be replaced; empty: source only
    std::chrono::microseconds period{100};
    // Run as SCHED_FIFO where that is permitted, so that a busy host delays no sample.
    bool realtime = true;
};

// A tick is new when it is larger than every tick seen before, on any vCPU and in either file: a
// copy of the mailbox that arrives at the destination while the source runs changes nothing.
// Thread rule: start and stop from one thread.
class BlackoutSampler {
  public:
    // Starts sampling in a thread of its own. Errors: timerfd's, eventfd's.
    static absl::StatusOr<BlackoutSampler> start(BlackoutOptions options);
    BlackoutSampler(BlackoutSampler&&) = default;
    BlackoutSampler& operator=(BlackoutSampler&&) = default;
    ~BlackoutSampler();

    // True when a tick of at least this is seen within `limit`.
    [[nodiscard]] bool wait_for_tick(uint64_t tick, Duration limit) const;

    // Ends the thread. A stillness that lasts until now counts. Once only.
    BlackoutReport stop();

  private:
    struct State;
    explicit BlackoutSampler(std::unique_ptr<State> state);

    std::unique_ptr<State> state_;
    std::jthread thread_;
};

}  // namespace godwit
