#include "bench/lab/statistics.h"

#include <algorithm>
#include <cmath>

namespace godwit {

std::optional<double> quantile(std::vector<double> values, double q) {
    if (values.empty()) return std::nullopt;
    std::sort(values.begin(), values.end());
    const double at = std::clamp(q, 0.0, 1.0) * static_cast<double>(values.size() - 1);
    const auto below = static_cast<size_t>(std::floor(at));
    const size_t above = std::min(below + 1, values.size() - 1);
    return values[below] + (at - std::floor(at)) * (values[above] - values[below]);
}

std::optional<double> ratio(std::optional<double> a, std::optional<double> b) {
    if (!a || !b || *b <= 0) return std::nullopt;
    return *a / *b;
}

std::vector<double> values_of(const std::vector<Metrics>& runs, const std::string& name) {
    std::vector<double> values;
    for (const Metrics& run : runs)
        if (const auto found = run.find(name); found != run.end()) values.push_back(found->second);
    return values;
}

double lost_ms(double elapsed_ms, double ticks, double ticks_per_ms) {
    return ticks_per_ms > 0 ? elapsed_ms - ticks / ticks_per_ms : 0;
}

}  // namespace godwit
