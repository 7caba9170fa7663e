// How long a fault takes from the event's reading to the page in place, over loopback TCP.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/base/cpu_latency.h"
#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

struct LatencyOptions {
    Bytes ram = Bytes{1} << 30;
    uint64_t faults = 20'000;  // random pages
    bool huge = true;
    int views = 2;
    Bytes push_rate = Bytes{64} << 20;
    uint64_t push_pages = 512;
    uint64_t think_us = 0;  // of the guest, between two touches
    bool realtime = true;
    CpuLatencyLimit cpu_latency;  // as both agents hold it from the freeze to the last page
    std::string only;             // one case by its name; empty: all
    bool json = false;  // one object, as Google Benchmark would print it, instead of a table
};

// The names of the cases, in the order in which they are measured.
std::vector<std::string> latency_cases();

// Prints a line each without and with push, and one with pre-paging and a sequential guest.
absl::Status measure_latency(const LatencyOptions& options);

}  // namespace godwit
