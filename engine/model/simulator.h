// Migrations of any number of VMs over any number of hosts, simulated. Pages flow as a fluid: a
// migration gets the smaller of its fair shares of the two hosts' links, and no more than a VM can
// take by itself. What it does after each round is what the engine does: the policy is the engine's
// (convergence.h). Deterministic: the same input gives the same output, bit for bit.
//
// Each migration: setup · live rounds (setup and fixed costs leave the link idle) · pause · rest,
// which the guest waits for or not. Hosts run at most `at_a_time` migrations out and in; VMs wait
// in their order.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/model/working_set.h"
#include "engine/model/writer.h"

namespace godwit {

struct SimulatedVm {
    uint32_t source = 0;  // index of the host
    uint32_t destination = 1;
    double touched_pages = 0;
    double most_page_rate = 1e15;  // R of one VM alone: its streams' and CPU's limit
    double wire_share = 1;
    MigrationCosts costs;
    ConvergenceLimits limits;
    double finish_by_s = 0;  // from its own beginning: what --finish-by says; 0: no deadline
    std::shared_ptr<const Writer> writer;
};

struct SimulatedHost {
    double link_rate = 0;  // wire bytes per second, each direction
    uint32_t at_a_time = 1;
};

struct SimulatedMigration {
    NextStep end = NextStep::kGiveUp;
    uint32_t rounds = 0;
    double begin_s = 0;
    double end_s = 0;
    double downtime_s = 0;
    double page_bytes = 0;
    double faults = 0;
    uint32_t throttle_percent = 0;
};

struct Simulation {
    std::vector<SimulatedMigration> migrations;  // as the VMs were given
    double total_s = 0;
    uint64_t events = 0;
};

// Errors: InvalidArgument (a host that is not there, source = destination, no writer, absurd
// numbers), ResourceExhausted (more than kMostSimulatedEvents).
absl::StatusOr<Simulation> simulate(std::span<const SimulatedVm> vms,
                                    std::span<const SimulatedHost> hosts);

inline constexpr uint64_t kMostSimulatedEvents = 200'000'000;

}  // namespace godwit
