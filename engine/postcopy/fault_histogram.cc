#include "engine/postcopy/fault_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace godwit {
namespace {

constexpr uint64_t kPerPower = 16;
constexpr uint64_t kLimitNs = uint64_t{1} << 40;

}  // namespace

size_t fault_bucket(std::chrono::nanoseconds latency) {
    const auto ns = static_cast<uint64_t>(std::max<int64_t>(latency.count(), 0));
    if (ns < kPerPower) return ns;
    if (ns >= kLimitNs) return kFaultBuckets - 1;
    const auto exponent = static_cast<uint64_t>(std::bit_width(ns)) - 1;  // 4 to 39
    return (exponent - 3) * kPerPower + ((ns >> (exponent - 4)) & (kPerPower - 1));
}

std::chrono::nanoseconds fault_bucket_end(size_t bucket) {
    if (bucket < kPerPower) return std::chrono::nanoseconds(bucket + 1);
    if (bucket >= kFaultBuckets - 1) return std::chrono::nanoseconds::max();
    const uint64_t exponent = bucket / kPerPower + 3;
    return std::chrono::nanoseconds((kPerPower + bucket % kPerPower + 1) << (exponent - 4));
}

std::chrono::nanoseconds fault_percentile(const FaultBuckets& buckets, double part) {
    uint64_t total = 0;
    for (const uint64_t count : buckets) total += count;
    if (total == 0) return {};
    const double rank = std::ceil(std::clamp(part, 0.0, 1.0) * static_cast<double>(total));
    const uint64_t wanted = std::clamp<uint64_t>(static_cast<uint64_t>(rank), 1, total);
    uint64_t before = 0;
    for (size_t i = 0; i + 1 < kFaultBuckets; ++i) {
        if (before + buckets[i] < wanted) {
            before += buckets[i];
            continue;
        }
        const int64_t begin = i == 0 ? 0 : fault_bucket_end(i - 1).count();
        const auto width = static_cast<double>(fault_bucket_end(i).count() - begin);
        const double share = static_cast<double>(wanted - before) / static_cast<double>(buckets[i]);
        return std::chrono::nanoseconds(begin + static_cast<int64_t>(width * share));
    }
    return std::chrono::nanoseconds::max();
}

FaultPercentiles fault_percentiles(const FaultBuckets& buckets, std::chrono::nanoseconds max) {
    FaultPercentiles result{.max = max};
    for (const uint64_t count : buckets) result.count += count;
    result.p50 = std::min(max, fault_percentile(buckets, 0.5));
    result.p90 = std::min(max, fault_percentile(buckets, 0.9));
    result.p99 = std::min(max, fault_percentile(buckets, 0.99));
    result.p99_9 = std::min(max, fault_percentile(buckets, 0.999));
    return result;
}

}  // namespace godwit
