// What people and scripts read of a group's migration.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "tools/godwit/fleet_board.h"
#include "tools/godwit/fleet_plan.h"

namespace godwit {

// Of a terminal, in characters.
struct FleetRoom {
    size_t rows = 24;
    size_t columns = 80;
};

// The live table, a line each, no line ends, none longer than the room: a head, then the VMs under
// way, those that wait and those that ended, as many as there is room for.
std::vector<std::string> fleet_table(const FleetBoard& board, Duration elapsed, FleetRoom room);

// For no terminal: "web: …"; empty for an event that says little.
std::string fleet_line(const FleetGuest& guest, const v1::MigrationEvent& event);
// The last of a VM: how it ended and why, where the guest is, whether a retry is safe.
std::string fleet_verdict(const FleetGuest& guest);

struct FleetTimes {
    Duration sampling{};
    Duration total{};  // from the first begin to the last end
};
// What there is to say of a group beside its VMs.
struct FleetFrame {
    FleetOrder order;
    std::string schedule;
    std::vector<LeftOut> left_out;
    double downtime_limit_ms = 0;  // of each VM; 0: none is known
    FleetTimes times;
};
// A line for each VM, then those of the group.
std::string fleet_summary(const FleetBoard& board, const FleetFrame& frame);
nlohmann::ordered_json fleet_json(const FleetBoard& board, const FleetFrame& frame);

}  // namespace godwit
