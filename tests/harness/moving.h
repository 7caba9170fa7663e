// Moving a guest, and what holds after a migration that succeeded.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/harness/agent.h"

namespace godwit::testing {

// For tests that are about correctness: limits that a loaded two-core machine can keep, and a
// longer pause when it can't.
inline const std::vector<std::string> kPatient = {"--downtime-limit", "500ms", "--on-no-converge",
                                                  "stop-and-copy"};

// The tracker that a VM's migration is to use: for a KVM guest $GODWIT_TEST_TRACKER, else
// kvm-dirty-log; for a TCG guest uffd-wp.
std::string tracker_for(TestAgent& agent, const std::string& vm);

// `godwit migrate VM --to TO --verify --json FLAGS…`, with that tracker.
CommandResult migrate_with(TestAgent& from, TestAgent& to, const std::string& vm,
                           const std::vector<std::string>& flags);

// migrate_with(); the test fails unless it was done, with equal RAM, and nothing of the VM stays
// at `from`. Prints a line of figures. Returns the report.
nlohmann::json move_guest(TestAgent& from, TestAgent& to, const std::string& vm,
                          const std::vector<std::string>& flags = kPatient);

}  // namespace godwit::testing
