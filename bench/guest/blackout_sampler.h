// BlackoutSampler: how long a guest stood still as seen from outside, while it moves from one RAM
// file to another.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "bench/guest/tick_source.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/wait.h"

namespace godwit {

// From a sample that showed a new tick to the next one that did.
struct Stillness {
    MonotonicTime begin, end;
    uint64_t tick = 0;  // the largest tick at its begin
    [[nodiscard]] Duration length() const { return end - begin; }
};

struct TracePoint {
    MonotonicTime at;
    uint64_t tick = 0;  // the largest seen so far
};

struct BlackoutReport {
    // Longest time from a sample that showed a new tick to the next one that did. The guest stood
    // still that long, give or take one sample gap at either end.
    uint64_t longest_ns = 0;
    Stillness longest;
    // The first that began with a tick in one source and ended with one in another: the guest has
    // moved.
    std::optional<Stillness> handover;
    // All that had a sample without a new tick in them (so a hiccup of the sampler is no stall), in
    // order, at most kMaxStalls. What a guest does within one period is not seen.
    std::vector<Stillness> stalls;
    // Longest time between two consecutive samples: the sampler's own hiccups.
    uint64_t longest_sample_gap_ns = 0;
    uint64_t samples = 0;
    uint64_t new_ticks = 0;               // samples that showed a new tick
    uint64_t first_tick = 0;              // the first one seen
    uint64_t last_tick = 0;               // the largest tick seen
    MonotonicTime first_time, last_time;  // of the first tick and of the last sample

    std::vector<TracePoint> trace;  // where it was asked for; at most kMaxTrace

    // Of an hour at 100 ms, or six minutes at 10 ms.
    static constexpr size_t kMaxTrace = 36'000;
    // A minute's, were every other sample one, at 100 us.
    static constexpr size_t kMaxStalls = size_t{1} << 19;
};

struct BlackoutOptions {
    std::string source_path;
    std::string destination_path;  // may not exist yet, may be replaced; empty: source only
    std::vector<std::shared_ptr<TickSource>> more;  // where else to look, the source first
    std::chrono::microseconds period{100};
    // Run as SCHED_FIFO where that is permitted, so that a busy host delays no sample.
    bool realtime = true;
    std::chrono::microseconds trace_period{0};  // how often a point of the trace is kept; 0: never
};

// A tick is new when it is larger than every tick seen before, on any vCPU and in any source: a
// copy of the mailbox that arrives at the destination while the source runs changes nothing.
// Thread rule: start and stop from one thread.
class BlackoutSampler {
  public:
    // Starts sampling in a thread of its own. Errors: timerfd's, eventfd's.
    static absl::StatusOr<BlackoutSampler> start(BlackoutOptions options);
    BlackoutSampler(BlackoutSampler&&) noexcept;
    BlackoutSampler& operator=(BlackoutSampler&&) noexcept;
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
