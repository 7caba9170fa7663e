// What a report shows, worked out once for all its forms: medians with their spread, ratios to a
// baseline with how sure they are, targets with their verdicts.
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "bench/lab/report/results.h"

namespace godwit {

struct ReportColumn {
    const char* metric;
    const char* heading;
    double scale;
    bool low_is_good;
    bool has_ratio = true;  // a ratio of it means something
};
std::span<const ReportColumn> report_columns();

// {"setting": …, "columns": […], "scenarios": [{"name", "about", "setting", "baseline", "rows",
// "targets"}]}. A row has "stats" (METRIC: median, q1, q3, min, max, n, values), "versus" (METRIC:
// ratio, p, delta, all against the baseline's row) and "series" of the run with the median time.
// The baseline is the fastest of QEMU's own with private memory, by its median time; without any,
// the first row that ran.
nlohmann::json report_data(const ResultFile& results);

// Median, quartiles, extremes and the values; null for none.
nlohmann::json stats_of(const std::vector<double>& values);
// {"ratio", "p", "delta"}: medians of a over b; null when either has none, or b's is 0.
nlohmann::json versus(const std::vector<double>& a, const std::vector<double>& b);

// What a target's row and the fastest of its peers did: {"text", "metric", "peer", "value",
// "asked", "verdict": "met", "missed" or "not measured", "n", "peer_n", "failed", "issue"}; n: runs
// that measured it. A row that failed a run has missed whatever is asked of it: what is left would
// be a choice of the runs that went well.
nlohmann::json judge_target(const AskedTarget& asked, const std::vector<RowResults>& rows);

}  // namespace godwit
