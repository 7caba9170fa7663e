#include "engine/model/calibration.h"

#include <algorithm>
#include <cmath>
#include <vector>

namespace godwit {
namespace {

constexpr double kLowQuantile = 0.1;
constexpr double kHighQuantile = 0.9;

using Field = std::optional<double> PastMigration::*;

// Sorted, without what is absurd.
std::vector<double> known(std::span<const PastMigration> past, Field field) {
    std::vector<double> values;
    for (const PastMigration& migration : past) {
        const std::optional<double>& value = migration.*field;
        if (value && std::isfinite(*value) && *value >= 0 && *value <= kLongestTime_s)
            values.push_back(*value);
    }
    std::sort(values.begin(), values.end());
    return values;
}

// Between neighbours in proportion; of at least one value.
double part_below(const std::vector<double>& sorted, double q) {
    const double place = q * static_cast<double>(sorted.size() - 1);
    const auto below = static_cast<size_t>(place);
    const size_t above = std::min(below + 1, sorted.size() - 1);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - static_cast<double>(below));
}

double median_or(std::span<const PastMigration> past, Field field, double otherwise) {
    const std::vector<double> values = known(past, field);
    return values.empty() ? otherwise : part_below(values, 0.5);
}

ErrorRange range_of(std::span<const PastMigration> past, Field field) {
    const std::vector<double> values = known(past, field);
    if (values.empty()) return {};
    const auto bounded = [&](double q) { return std::min(part_below(values, q), kWorstError); };
    return {.low = bounded(kLowQuantile), .high = bounded(kHighQuantile)};
}

}  // namespace

PairKnowledge learn_from(std::span<const PastMigration> past, const MigrationCosts& defaults) {
    PairKnowledge knowledge{.costs = defaults};
    MigrationCosts& costs = knowledge.costs;
    costs.setup_s = median_or(past, &PastMigration::setup_s, defaults.setup_s);
    costs.per_round_s = median_or(past, &PastMigration::per_round_s, defaults.per_round_s);
    costs.pause_s = median_or(past, &PastMigration::pause_s, defaults.pause_s);
    costs.fault_s = median_or(past, &PastMigration::fault_s, defaults.fault_s);
    knowledge.migrations = static_cast<uint32_t>(known(past, &PastMigration::pause_s).size());
    knowledge.errors = {.total = range_of(past, &PastMigration::total_error),
                        .downtime = range_of(past, &PastMigration::downtime_error),
                        .wire_bytes = range_of(past, &PastMigration::wire_error)};
    const auto share = [&](Field field, double otherwise) {
        return std::clamp(median_or(past, field, otherwise), kLeastRateShare, kMostRateShare);
    };
    knowledge.rate_share = share(&PastMigration::rate_share, 1);
    knowledge.packed_rate_share = share(&PastMigration::packed_rate_share, knowledge.rate_share);
    return knowledge;
}

}  // namespace godwit
