// One system call made by a thread of another process, after which it goes on as before.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <functional>

#include "dirty-tracking/attach/attach.h"
#include "dirty-tracking/attach/gadgets.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct RemoteCall {
    pid_t process = 0;
    pid_t thread = 0;
    int memory = -1;  // an open /proc/PID/mem, readable and writable
    Gadgets gadgets;
    long number = 0;  // of a call that does not block
    std::array<uint64_t, 3> arguments{};
    MonotonicTime deadline;
    std::function<void(AttachStep)> after_step;
};

struct RemoteResult {
    int64_t value = 0;  // as the kernel returns it: -errno on failure
    Duration hold{};
};

// Runs on a thread of its own and returns when it has ended: from then on nothing is traced.
// Errors: Aborted when a signal came in between (it was delivered; try again); NotFound when the
// thread ended; PermissionDenied; DeadlineExceeded; FailedPrecondition; Unimplemented.
absl::StatusOr<RemoteResult> make_remote_call(const RemoteCall& call);

}  // namespace godwit
