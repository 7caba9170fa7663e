// `godwit migrate --all` and `--vms`: several VMs, in an order, some at a time.
#pragma once

#include <string>
#include <vector>

#include "tools/godwit/agent_client.h"
#include "tools/godwit/exit_code.h"

namespace godwit {

struct FleetOptions {
    std::vector<std::string> vms;   // empty: all of the agent
    std::string schedule = "auto";  // serial, parallel, auto
    uint32_t parallel = 0;          // 0: as the schedule has it
    bool gang = false;              // all at once, or none
    v1::MigrateRequest request;     // for each, but for its VM; the bandwidth is the group's
    bool json = false;
};

// Migrates them all; one that fails does not stop the rest, but of a gang: its members wait for one
// another, switch over together, and stay where they are if one of them can't come. Ctrl-C cancels
// those that have not committed (of a gang that was told to proceed, none); a second one leaves at
// once what still runs. A process that is killed leaves what is under way to the agent, and nothing
// else begins.
ExitCode run_fleet(AgentClient& agent, const FleetOptions& options);

}  // namespace godwit
