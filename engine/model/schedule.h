// How many of several VMs to migrate at a time over one link, and in which order. Pure: every k and
// three orders are simulated with each VM's curve as its guest; the shortest total time of those
// that break the fewest downtime limits is taken.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "engine/model/simulator.h"

namespace godwit {

struct Schedule {
    std::vector<uint32_t> order;  // indices of the VMs
    uint32_t at_a_time = 1;
    uint32_t missed_limits = 0;  // expected downtimes over their limits, and VMs given up
    double total_s = 0;          // expected
};

// Of one order and k, as expected. Errors: simulate()'s.
absl::StatusOr<Schedule> expect_schedule(std::span<const SimulatedVm> vms, double link_rate,
                                         std::vector<uint32_t> order, uint32_t at_a_time);
// The best with k up to `most_at_a_time` (at least 1); at most 33 values of k are tried. `first`,
// the index of one that is under way, comes first in every order. Errors: the same;
// InvalidArgument without VMs, or where `first` is none.
absl::StatusOr<Schedule> auto_schedule(std::span<const SimulatedVm> vms, double link_rate,
                                       uint32_t most_at_a_time = UINT32_MAX,
                                       std::optional<uint32_t> first = std::nullopt);

}  // namespace godwit
