// Which thread of a process can best be interrupted for a moment.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

struct ThreadChoice {
    pid_t thread = 0;
    std::string name;
    int rank = 0;  // lower is better
};

// The threads of `pid` without `excluded`, best first: QEMU's call_rcu, then threads blocked in
// calls that the kernel restarts, then running ones, then those in calls that return EINTR, and
// last what looks like a vCPU ("CPU 0/KVM"). Errors: NotFound; FailedPrecondition when none is
// left.
absl::StatusOr<std::vector<ThreadChoice>> choose_threads(pid_t pid,
                                                         std::span<const pid_t> excluded);

// The process that traces this thread, 0 when none (also when the thread is gone).
pid_t tracer_of(pid_t pid, pid_t thread);

}  // namespace godwit
