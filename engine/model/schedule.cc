#include "engine/model/schedule.h"

#include <algorithm>
#include <numeric>

namespace godwit {
namespace {

constexpr uint32_t kMostTried = 32;

}  // namespace

absl::StatusOr<Schedule> expect_schedule(std::span<const SimulatedVm> vms, double link_rate,
                                         std::vector<uint32_t> order, uint32_t at_a_time) {
    std::vector<SimulatedVm> ordered;
    for (const uint32_t index : order) {
        if (index >= vms.size()) return absl::InvalidArgumentError("The order names no VM");
        ordered.push_back(vms[index]);
        ordered.back().source = 0;
        ordered.back().destination = 1;
    }
    const std::vector<SimulatedHost> hosts(2, {.link_rate = link_rate, .at_a_time = at_a_time});
    GODWIT_ASSIGN_OR_RETURN(const Simulation simulation, simulate(ordered, hosts));
    Schedule schedule{
        .order = std::move(order), .at_a_time = at_a_time, .total_s = simulation.total_s};
    for (size_t i = 0; i < ordered.size(); ++i) {
        const SimulatedMigration& migration = simulation.migrations[i];
        if (migration.end == NextStep::kGiveUp ||
            migration.downtime_s > to_seconds(ordered[i].limits.downtime_limit))
            ++schedule.missed_limits;
    }
    return schedule;
}

absl::StatusOr<Schedule> auto_schedule(std::span<const SimulatedVm> vms, double link_rate,
                                       uint32_t most_at_a_time, std::optional<uint32_t> first) {
    if (vms.empty()) return absl::InvalidArgumentError("There is no VM to schedule");
    if (first && *first >= vms.size())
        return absl::InvalidArgumentError("The first of the order is no VM");
    std::vector<uint32_t> order(vms.size());
    std::iota(order.begin(), order.end(), 0U);
    std::vector<std::vector<uint32_t>> orders{order};
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) {
        return vms[a].touched_pages < vms[b].touched_pages;
    });
    orders.push_back(order);
    orders.emplace_back(order.rbegin(), order.rend());
    if (first)
        for (std::vector<uint32_t>& one : orders)
            std::stable_partition(one.begin(), one.end(),
                                  [&](uint32_t index) { return index == *first; });
    Schedule best;
    const auto most = std::min(static_cast<uint32_t>(vms.size()), std::max(most_at_a_time, 1U));
    for (uint32_t k = 1; k <= most; k = k < kMostTried || k == most ? k + 1 : most) {
        for (const std::vector<uint32_t>& tried : orders) {
            GODWIT_ASSIGN_OR_RETURN(Schedule now, expect_schedule(vms, link_rate, tried, k));
            const bool fewer = now.missed_limits < best.missed_limits;
            const bool same = now.missed_limits == best.missed_limits;
            if (best.order.empty() || fewer || (same && now.total_s < best.total_s))
                best = std::move(now);
        }
    }
    return best;
}

}  // namespace godwit
