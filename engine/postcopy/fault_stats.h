// FaultStats: what serving page faults did and took, in a file that survives the agent.
#pragma once

#include <cstdint>

#include "engine/base/clock.h"
#include "engine/postcopy/fault_histogram.h"

namespace godwit {

// Where a page that was placed came from.
enum class PageOrigin : uint8_t { kDemand = 0, kPrepaging = 1, kPush = 2 };

// Plain data in the head of the missing-pages file. Written through FaultMeter, read by snapshot().
// Times are CLOCK_MONOTONIC of this boot, in nanoseconds.
struct FaultStats {
    uint64_t fault_count = 0;         // events that were read, repeated ones too
    uint64_t waited_fault_count = 0;  // pages that somebody waited for; these are in `latency`
    uint64_t demand_pages = 0;        // placed, by how they came
    uint64_t prepaging_pages = 0;
    uint64_t push_pages = 0;
    uint64_t duplicate_pages = 0;    // came again, or for a page that was not missing: dropped
    uint64_t local_zero_pages = 0;   // faults on what was never touched or was given back
    uint64_t already_there = 0;      // faults whose page had come before the event was looked at
    uint64_t asked_pages = 0;        // requests sent
    uint64_t failed_fill_count = 0;  // faults that could not be answered at first: no memory
    uint64_t stall_ns = 0;           // at least one fault was open
    uint64_t longest_stall_ns = 0;   // the longest such time without a break
    uint64_t stall_began_ns = 0;     // of the one that lasts; 0: no fault is open
    uint64_t longest_latency_ns = 0;
    FaultBuckets latency{};  // from the event's reading to the page in place and woken

    [[nodiscard]] FaultPercentiles percentiles() const {
        return fault_percentiles(latency, std::chrono::nanoseconds(longest_latency_ns));
    }
    // The time in which at least one fault was open, the current stall included.
    [[nodiscard]] Duration total_stall(MonotonicTime now) const;
    [[nodiscard]] Duration longest_stall(MonotonicTime now) const;
};

// Counts into a FaultStats by relaxed atomics; allocates nothing. Thread-safe but for the stall,
// whose two calls the caller must not let overlap.
class FaultMeter {
  public:
    explicit FaultMeter(FaultStats& stats) : stats_(stats) {}

    void add(uint64_t FaultStats::*counter, uint64_t count = 1);
    void placed(PageOrigin origin, uint64_t pages);
    void waited(Duration latency);
    // A stall that an earlier agent left open goes on: its beginning stays.
    void stall_begins(MonotonicTime now);
    void stall_ends(MonotonicTime now);
    // Every field by itself is whole; together they are of about one moment.
    [[nodiscard]] FaultStats snapshot() const;

  private:
    FaultStats& stats_;
};

}  // namespace godwit
