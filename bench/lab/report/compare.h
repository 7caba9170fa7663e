// Two sets of results beside each other: what became better or worse from the first to the second.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/lab/report/results.h"

namespace godwit {

struct Change {
    std::string scenario;
    std::string row;
    std::string metric;
    double before = 0;  // medians
    double after = 0;
    double ratio = 0;  // after / before
    double p = 1;      // permutation_p(), corrected for all that are compared (holm())
    double least = 1;  // least_p() of so many runs, not corrected
    double delta = 0;  // cliffs_delta() of after over before
    // "better" or "worse": by more than the tolerance, and chance alone would do as much anywhere
    // in the list in less than one of twenty cases; else "same". Of failures: any more, any fewer.
    std::string verdict;
};

// Every metric of the report that both have for the same row of the same scenario; and "failed",
// the share of runs that failed, where either has such: a row that ran before and is not there any
// more has failed wholly. `tolerance`: 0.05 lets 5 % pass.
std::vector<Change> compare(const ResultFile& before, const ResultFile& after, double tolerance);

// Only the rows of one build ("ROW@LABEL"), without its label.
ResultFile only_build(const ResultFile& results, const std::string& label);

// A table; with `all` false only what is not the same. Says so when there are too few runs for so
// many figures to show any change. JSON: an array of objects.
std::string render_changes(const std::vector<Change>& changes, bool all);
nlohmann::json changes_json(const std::vector<Change>& changes);

}  // namespace godwit
