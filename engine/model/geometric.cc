#include "engine/model/geometric.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/base/units.h"

namespace godwit {
namespace {

absl::Status check_geometric(const GeometricInput& input, uint32_t m) {
    GODWIT_RETURN_IF_ERROR(check_range("memory in bytes", input.memory_bytes, 1,
                                       kMostPages * static_cast<double>(kPageBytes)));
    GODWIT_RETURN_IF_ERROR(
        check_range("page rate in bytes per second", input.page_rate, kLeastRate, kMostRate));
    GODWIT_RETURN_IF_ERROR(
        check_range("dirty rate in pages per second", input.dirty_pages_per_s, 0, kMostDirtyRate));
    GODWIT_RETURN_IF_ERROR(
        check_range("downtime limit in seconds", input.downtime_limit_s, 0, kLongestTime_s));
    GODWIT_RETURN_IF_ERROR(
        check_range("fixed cost in seconds", input.fixed_cost_s, 0, kLongestTime_s));
    GODWIT_RETURN_IF_ERROR(
        check_range("number of rounds", input.max_rounds, 1, kMostRoundsModelled));
    return check_range("number of VMs", m, 1, kMostRoundsModelled);
}

double ratio(const GeometricInput& input) {
    return static_cast<double>(kPageBytes) * input.dirty_pages_per_s / input.page_rate;
}

// n: rounds until the rest of `memory_bytes` is at most Vth.
uint32_t live_rounds(const GeometricInput& input, double memory_bytes, double r) {
    const double threshold =
        input.page_rate * std::max(input.downtime_limit_s - input.fixed_cost_s, 0.0);
    if (r <= 0 || threshold >= memory_bytes) return 1;
    if (r >= 1 || threshold <= 0) return input.max_rounds;
    // A hair less, so that a rest that is exactly Vth does not cost another round by rounding.
    const double n = std::ceil(std::log(threshold / memory_bytes) / std::log(r) - 1e-9);
    return static_cast<uint32_t>(std::clamp(n, 1.0, static_cast<double>(input.max_rounds)));
}

// `memory_bytes` at the whole rate, leaving the r-th part each round.
GeometricForecast rounds_of(const GeometricInput& input, double memory_bytes, double r) {
    GeometricForecast forecast{.r = r, .rounds = live_rounds(input, memory_bytes, r)};
    double rest = memory_bytes;
    for (uint32_t i = 0; i < forecast.rounds; ++i) {
        forecast.page_bytes += rest;
        rest *= std::min(r, 1.0);
    }
    forecast.page_bytes += rest;
    forecast.downtime_s = rest / input.page_rate + input.fixed_cost_s;
    forecast.total_s = forecast.page_bytes / input.page_rate + input.fixed_cost_s;
    forecast.converges = r < 1 && forecast.downtime_s <= input.downtime_limit_s * (1 + 1e-9);
    return forecast;
}

}  // namespace

absl::StatusOr<GeometricForecast> geometric_non_live(const GeometricInput& input) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, 1));
    const double time_s = input.memory_bytes / input.page_rate + input.fixed_cost_s;
    return GeometricForecast{.r = ratio(input),
                             .converges = time_s <= input.downtime_limit_s,
                             .total_s = time_s,
                             .downtime_s = time_s,
                             .page_bytes = input.memory_bytes};
}

absl::StatusOr<GeometricForecast> geometric_precopy(const GeometricInput& input) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, 1));
    return rounds_of(input, input.memory_bytes, ratio(input));
}

absl::StatusOr<GeometricForecast> geometric_serial(const GeometricInput& input, uint32_t m) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, m));
    GeometricForecast forecast = rounds_of(input, input.memory_bytes, ratio(input));
    const double one_s = forecast.page_bytes / input.page_rate;
    forecast.total_s += (m - 1) * one_s;
    forecast.downtime_s += (m - 1) * one_s;
    forecast.page_bytes *= m;
    return forecast;
}

absl::StatusOr<GeometricForecast> geometric_parallel(const GeometricInput& input, uint32_t m) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, m));
    return rounds_of(input, input.memory_bytes * m, ratio(input) * m);
}

absl::StatusOr<GeometricForecast> geometric_k_at_a_time(const GeometricInput& input, uint32_t m,
                                                        uint32_t k) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, m));
    GODWIT_RETURN_IF_ERROR(check_range("number of VMs at a time", k, 1, kMostRoundsModelled));
    k = std::min(k, m);
    GeometricForecast all = rounds_of(input, input.memory_bytes * k, ratio(input) * k);
    const uint32_t groups = m / k;
    all.total_s *= groups;
    all.page_bytes *= groups;
    if (const uint32_t last = m % k; last > 0) {
        const GeometricForecast rest =
            rounds_of(input, input.memory_bytes * last, ratio(input) * last);
        all.total_s += rest.total_s;
        all.page_bytes += rest.page_bytes;
    }
    return all;
}

absl::StatusOr<uint32_t> geometric_most_at_a_time(const GeometricInput& input, uint32_t m) {
    GODWIT_RETURN_IF_ERROR(check_geometric(input, m));
    const double r = ratio(input);
    uint32_t k = r <= 0 ? m : static_cast<uint32_t>(std::min(1 / r, static_cast<double>(m)));
    while (k > 0 && k * r >= 1) --k;
    return k;
}

}  // namespace godwit
