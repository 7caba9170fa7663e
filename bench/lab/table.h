// Tables that a benchmark prints: what each contender did.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "bench/lab/statistics.h"

namespace godwit {

// All runs of one contender.
struct Results {
    std::string engine;         // its label
    std::vector<Metrics> runs;  // those that succeeded
    int failed = 0;
    bool missing = false;  // this build or machine does not have it
    std::string last_error;
};

struct Column {
    const char* heading;
    const char* metric;
    double scale;
    bool with_p90;
};

// Median, and where a column wants it the 90 % quantile; a dash for what an engine does not report.
std::string render_table(const std::vector<Results>& all, std::span<const Column> columns);

// The median of one contender's metric; nothing where there is none.
std::optional<double> median_of(const std::vector<Results>& all, const std::string& engine,
                                const std::string& metric);

// Two digits behind the point below 100, none above; a dash for nothing.
std::string number_text(std::optional<double> value);

inline constexpr int kNameWidth = 24;

}  // namespace godwit
