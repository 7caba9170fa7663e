// Which VMs a group has, in which order they go, and how many at a time. Pure: what an agent said
// is handed in.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "engine/model/working_set.h"
#include "godwit/v1/agent.pb.h"
#include "godwit/v1/plan.pb.h"

namespace godwit {

// What an agent runs at a time.
inline constexpr uint32_t kMostAtATime = 32;
inline constexpr size_t kMostOfFleet = 1000;  // VMs of one group

// "a,b,c": names or UUIDs. Errors: InvalidArgument for an empty one, or one that is there twice.
absl::StatusOr<std::vector<std::string>> parse_vm_names(const std::string& text);

// A VM of the agent that stays because something holds it.
struct LeftOut {
    std::string vm;
    std::string holder;  // as the agent says it: a migration's id, or what is done with it
};
struct FleetVms {
    std::vector<std::string> names;
    std::vector<LeftOut> left_out;
};
// For people: "web is in use by m-1".
std::string left_out_text(const LeftOut& one);
// Those of `asked`, by name or else by UUID, in that order; or all (where it is empty) but those
// that something holds. Errors: NotFound for a VM that is not among `vms`, or where none is left;
// InvalidArgument where two of `asked` are one VM.
absl::StatusOr<FleetVms> choose_fleet(const std::vector<std::string>& asked,
                                      const v1::ListVmsResponse& vms);

struct LinkGuess {
    double bytes_per_s = 0;
    std::string source;  // how it is known
};
// The bandwidth limit, or the most that one of the last ten migrations to that destination sent
// (one of several at a time has a share of the link), or 10 Gbit/s.
LinkGuess guess_link(const v1::MigrateRequest& request, const v1::ListMigrationsResponse& past);

// What a migration costs beside its pages, as the last ones to a destination had it.
MigrationCosts usual_costs(const v1::Calibration& past);

// A VM before its migration.
struct FleetSample {
    std::string vm;
    uint64_t memory_bytes = 0;
    absl::StatusOr<v1::DirtyRate> rate;  // what could not be measured counts as full and idle
};

struct FleetOrder {
    std::vector<std::string> vms;
    uint32_t at_a_time = 1;
    std::optional<double> expected_s;  // of the whole group, where it was asked of the model
    std::string reason;                // a clause for people
    bool is_gang = false;              // they belong together
};
// In the order given. `parallel` 0: as many as the schedule has.
FleetOrder plain_order(const std::vector<std::string>& vms, bool serial, uint32_t parallel);
// All at once. Errors: InvalidArgument for more than an agent runs at a time; FailedPrecondition
// where one was left out.
absl::StatusOr<FleetOrder> gang_order(const FleetVms& fleet);
// As the model has it (engine/model/schedule.h), at most `parallel` at a time (0: kMostAtATime).
// `first`, a VM that is under way, stays first. Errors: the model's; NotFound where `first` is not
// among the samples.
absl::StatusOr<FleetOrder> auto_order(std::span<const FleetSample> samples,
                                      const v1::MigrateRequest& request, const LinkGuess& link,
                                      const MigrationCosts& costs, uint32_t parallel,
                                      const std::optional<std::string>& first = std::nullopt);

}  // namespace godwit
