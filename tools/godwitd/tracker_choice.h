// Which dirty tracker a VM gets.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"
#include "engine/guest/hypervisor.h"

namespace godwit {

// "auto" for an empty name. Error: InvalidArgument for an unknown one.
absl::StatusOr<std::string> tracker_name(const std::string& name);

struct TrackerChoice {
    std::unique_ptr<DirtyTracker> tracker;
    double attach_hold_us = 0;  // how long a thread of the VM was held
};

// `name` is one of tracker_name(). "auto" takes kvm-dirty-log where the VM can have it, else
// uffd-wp; where that shows only when it is started, start() takes the other one. uffd-wp sees
// discards where the VM has the resident. Errors: those of the tracker that was asked for, or of
// both; kvm-dirty-log by name is started and stopped once, so that a refusal comes now and not when
// the destination has prepared itself. The VM is as before.
absl::StatusOr<TrackerChoice> choose_tracker(Vm& vm, const std::string& name);

// What this host has, for GetHost and the log: names, and why one is missing.
struct HostTrackers {
    std::vector<std::string> names;
    std::vector<std::string> problems;
};
HostTrackers host_trackers(bool has_kvm, const std::string& resident_library);

}  // namespace godwit
