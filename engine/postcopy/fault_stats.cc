#include "engine/postcopy/fault_stats.h"

#include <algorithm>
#include <atomic>

namespace godwit {
namespace {

std::atomic_ref<uint64_t> counter(uint64_t& value) { return std::atomic_ref<uint64_t>(value); }

uint64_t read(uint64_t& value) { return counter(value).load(std::memory_order_relaxed); }

void raise(uint64_t& value, uint64_t candidate) {
    uint64_t seen = read(value);
    while (seen < candidate &&
           !counter(value).compare_exchange_weak(seen, candidate, std::memory_order_relaxed)) {
    }
}

uint64_t to_ns(Duration duration) {
    return static_cast<uint64_t>(std::max<int64_t>(duration.count(), 0));
}

uint64_t to_ns(MonotonicTime time) { return to_ns(time.time_since_epoch()); }

uint64_t since(uint64_t began_ns, MonotonicTime now) {
    const uint64_t now_ns = to_ns(now);
    return began_ns == 0 || now_ns < began_ns ? 0 : now_ns - began_ns;
}

}  // namespace

Duration FaultStats::total_stall(MonotonicTime now) const {
    return Duration(stall_ns + since(stall_began_ns, now));
}

Duration FaultStats::longest_stall(MonotonicTime now) const {
    return Duration(std::max(longest_stall_ns, since(stall_began_ns, now)));
}

void FaultMeter::add(uint64_t FaultStats::*field, uint64_t count) {
    if (count > 0) counter(stats_.*field).fetch_add(count, std::memory_order_relaxed);
}

void FaultMeter::placed(PageOrigin origin, uint64_t pages) {
    switch (origin) {
        case PageOrigin::kDemand:
            return add(&FaultStats::demand_pages, pages);
        case PageOrigin::kPrepaging:
            return add(&FaultStats::prepaging_pages, pages);
        case PageOrigin::kPush:
            return add(&FaultStats::push_pages, pages);
    }
}

void FaultMeter::waited(Duration latency) {
    add(&FaultStats::waited_fault_count);
    counter(stats_.latency[fault_bucket(latency)]).fetch_add(1, std::memory_order_relaxed);
    raise(stats_.longest_latency_ns, to_ns(latency));
}

void FaultMeter::stall_begins(MonotonicTime now) {
    if (read(stats_.stall_began_ns) == 0)
        counter(stats_.stall_began_ns).store(to_ns(now), std::memory_order_relaxed);
}

void FaultMeter::stall_ends(MonotonicTime now) {
    const uint64_t lasted = since(read(stats_.stall_began_ns), now);
    counter(stats_.stall_began_ns).store(0, std::memory_order_relaxed);
    add(&FaultStats::stall_ns, lasted);
    raise(stats_.longest_stall_ns, lasted);
}

FaultStats FaultMeter::snapshot() const {
    static_assert(sizeof(FaultStats) % sizeof(uint64_t) == 0);
    FaultStats copy;
    auto* to = reinterpret_cast<uint64_t*>(&copy);
    auto* from = reinterpret_cast<uint64_t*>(&stats_);
    for (size_t i = 0; i < sizeof(FaultStats) / sizeof(uint64_t); ++i) to[i] = read(from[i]);
    return copy;
}

}  // namespace godwit
