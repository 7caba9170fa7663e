// What an agent has when nothing is under way, and what it should not have then.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "tests/harness/agent.h"

namespace godwit::testing {

// How many descriptors of each kind a process has: "socket", "eventfd", "ram file", "pidfd" …
std::map<std::string, int> descriptors_of(pid_t pid);

// In words, what belongs to the agent and is no part of it, nor of `vms` VMs that it has:
// processes, mounts, files of VMs, sockets of migrations and mappings of guests' memory. Of an
// agent that is not alive: the same.
std::vector<std::string> leavings_of(const TestAgent& agent, size_t vms);

// In words, the kinds of which there are more than there were. Of connections and of what waits for
// them gRPC keeps a few for a while.
std::vector<std::string> more_than(const std::map<std::string, int>& before,
                                   const std::map<std::string, int>& now);

}  // namespace godwit::testing
