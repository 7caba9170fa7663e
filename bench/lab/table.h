// The tables that a benchmark prints: what each engine did, and how that compares.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "bench/lab/statistics.h"

namespace godwit {

// All runs of one engine.
struct Results {
    std::string engine;
    std::vector<Metrics> runs;  // those that succeeded
    int failed = 0;
    bool missing = false;  // this build or machine does not have it
    std::string last_error;
};

// Median and 90 % quantile of the main metrics; a dash for what an engine does not report.
std::string render_table(const std::vector<Results>& all);

// Medians of each engine over those of "floor", "qemu-postcopy" and "qemu-preempt", where these
// ran.
std::string render_ratios(const std::vector<Results>& all);

}  // namespace godwit
