// What the models say about a migration before it begins. No I/O, no clock; plain numbers in
// seconds, bytes and pages, because formulas are written in them. Every number is finite.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/model/convergence.h"

namespace godwit {

// An expected value between what the spread of the measurements allows: low is the 10th and high
// the 90th percentile of what was measured, all at their best or all at their worst together.
struct Interval {
    double low = 0;
    double mid = 0;
    double high = 0;
    bool operator==(const Interval&) const = default;
};

// The same number three times: something known exactly.
constexpr Interval exactly(double value) { return {.low = value, .mid = value, .high = value}; }

struct Forecast {
    Strategy strategy = Strategy::kHybrid;
    bool converges = false;            // in the expected case the last set fits its limit
    NextStep end = NextStep::kGiveUp;  // how the live part ends in the expected case
    uint32_t rounds = 0;               // live rounds, round 0 included
    Interval rest_pages;               // left when they end
    Interval total_s;                  // from the start until the source is free
    Interval downtime_s;               // from STOP to RESUMED; of giving up: if it stopped then
    Interval page_bytes;               // page bytes looked at and sent, before compression
    Interval wire_bytes;
    Interval cpu_s;   // both hosts together
    Interval faults;  // pages that the guest waits for after its resume
    std::string reason;
};

// Plausible ranges: what lies outside is a unit mixed up or a measurement gone wrong.
inline constexpr double kMostPages = 1ULL << 40;  // 4 PiB of RAM
inline constexpr double kLeastRate = 1e3;         // bytes per second
inline constexpr double kMostRate = 1e15;         // bytes per second
inline constexpr double kMostDirtyRate = 1e12;    // pages per second
inline constexpr double kLongestTime_s = 1e7;     // about four months
inline constexpr uint32_t kMostRoundsModelled = 10'000;

// InvalidArgument unless low <= value <= high: "The page rate is 0: it must be …". NaN is refused.
absl::Status check_range(std::string_view what, double value, double low, double high);

double to_seconds(Duration duration);
// Rounded to nanoseconds; at most kLongestTime_s.
Duration from_seconds(double seconds);

// "precopy", "stop-and-copy", …: the words of the command line.
std::string_view strategy_word(Strategy strategy);

}  // namespace godwit
