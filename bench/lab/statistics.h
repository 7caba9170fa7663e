// What a handful of repeats says: medians, quantiles, ratios.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace godwit {

// What was measured in one run, by name; a unit ends every name. What an engine does not report is
// not there.
using Metrics = std::map<std::string, double>;

// The value below which the fraction `q` (0 to 1) lies, interpolated between neighbours; nothing of
// nothing.
std::optional<double> quantile(std::vector<double> values, double q);
inline std::optional<double> median(std::vector<double> values) {
    return quantile(std::move(values), 0.5);
}

// a / b; nothing when either is missing or b is not above zero.
std::optional<double> ratio(std::optional<double> a, std::optional<double> b);

// The metric `name` of all runs that have it.
std::vector<double> values_of(const std::vector<Metrics>& runs, const std::string& name);

// Time that a guest lost by its own count: what `ticks` are short of those that `ticks_per_ms`
// would have made in `elapsed_ms`. Stillness of any length counts, and so does slowness; negative
// when it ran faster than before.
double lost_ms(double elapsed_ms, double ticks, double ticks_per_ms);

}  // namespace godwit
