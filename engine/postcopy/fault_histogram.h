// The latencies of page faults on a logarithmic scale: pure functions over an array of counters.
//
// Sixteen buckets to each power of two, so a percentile is within 6.25 % of the truth; below 16 ns
// a bucket is one nanosecond. The last bucket takes everything from 2^40 ns (18 minutes).
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace godwit {

inline constexpr size_t kFaultBuckets = 16 * 37 + 1;
using FaultBuckets = std::array<uint64_t, kFaultBuckets>;

// Negative durations count as zero.
size_t fault_bucket(std::chrono::nanoseconds latency);
// The smallest latency that does not belong to `bucket` or a lower one any more.
std::chrono::nanoseconds fault_bucket_end(size_t bucket);

struct FaultPercentiles {
    uint64_t count = 0;
    std::chrono::nanoseconds p50{};
    std::chrono::nanoseconds p90{};
    std::chrono::nanoseconds p99{};
    std::chrono::nanoseconds p99_9{};
    std::chrono::nanoseconds max{};
};

// Where the given part (0 to 1) of all latencies is reached, as if those of a bucket were spread
// over it evenly; 0 when there are none.
std::chrono::nanoseconds fault_percentile(const FaultBuckets& buckets, double part);
// No percentile is above `max`, the largest latency as it was measured.
FaultPercentiles fault_percentiles(const FaultBuckets& buckets, std::chrono::nanoseconds max);

}  // namespace godwit
