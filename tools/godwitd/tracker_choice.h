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
    std::string reason;         // why "auto" did not take kvm-dirty-log; else empty
    double attach_hold_us = 0;  // how long a thread of the VM was held
};

// `name` is one of tracker_name(). "auto" takes kvm-dirty-log where the VM can have it, else
// uffd-wp. Errors: those of the tracker that was asked for, or of both; the VM is as before.
absl::StatusOr<TrackerChoice> choose_tracker(Vm& vm, const std::string& name);

// What this host has, for GetHost and the log: names, and why one is missing.
struct HostTrackers {
    std::vector<std::string> names;
    std::vector<std::string> problems;
};
HostTrackers host_trackers(bool has_kvm, const std::string& resident_library);

}  // namespace godwit
