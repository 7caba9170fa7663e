// Against: a piece of work measured in turn with the limit that it can't beat, so that both see the
// same machine; the counter `ratio` is what one takes of the other.
#pragma once

#include <benchmark/benchmark.h>

#include <functional>

#include "engine/base/units.h"

namespace godwit::bench {

struct Against {
    // Both are called with a number that grows; what they work on must not be what the other has
    // just had in a cache.
    std::function<void(size_t)> work;
    std::function<void(size_t)> limit;
    Bytes bytes = 0;        // of one call of `work`
    Bytes limit_bytes = 0;  // of one call of `limit`; 0: the same
};

// Counters: ns_per_B and limit_ns_per_B, both medians, and ratio.
void run(benchmark::State& state, const Against& pair);

}  // namespace godwit::bench
