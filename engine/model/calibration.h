// What the migrations of a host pair taught: fixed costs, how far forecasts were off, and what part
// of a promised page rate came. Pure: what was recorded goes in, what the next plan reckons with
// comes out.
//
// * Costs are medians over the migrations that can tell them.
// * Errors are actual / expected of migrations that a plan had foreseen; the range is from the 10th
//   to the 90th percentile, which of few is nearly their least and most.
// * The rate is what the first round reached of what was promised (the probe knows nothing of the
//   destination's writing), the median; at most kMostRateShare. Where pages go packed it is another
//   one: chunks are tried raw now and then, and packing competes with the guest for the CPUs.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "engine/model/chooser.h"

namespace godwit {

// Of one migration. What is not known is absent; a number that is negative, infinite or NaN counts
// as absent.
struct PastMigration {
    std::optional<double> setup_s;
    std::optional<double> per_round_s;
    std::optional<double> pause_s;
    std::optional<double> fault_s;
    // Actual / expected.
    std::optional<double> total_error;
    std::optional<double> downtime_error;
    std::optional<double> wire_error;
    // One of both.
    std::optional<double> rate_share;
    std::optional<double> packed_rate_share;
};

struct PairKnowledge {
    MigrationCosts costs;
    uint32_t migrations = 0;  // that told at least one cost
    ForecastErrors errors;
    double rate_share = 1;
    double packed_rate_share = 1;  // rate_share, where nothing went packed yet
};

inline constexpr double kLeastRateShare = 0.05;
inline constexpr double kMostRateShare = 2;

// Costs that no migration tells, and CPU times, are those of `defaults`.
PairKnowledge learn_from(std::span<const PastMigration> past, const MigrationCosts& defaults);

}  // namespace godwit
