// Two snippets of code that every process has in its C library, found in the target's memory.
#pragma once

#include <sys/types.h>

#include <cstdint>

#include "engine/base/status.h"

namespace godwit {

struct Gadgets {
    uint64_t syscall_return = 0;     // syscall; ret
    uint64_t restore_registers = 0;  // mov $15, %rax; syscall: the C library's rt_sigreturn
};

// Searches the executable mappings of `pid`, the C library first. `memory` is an open
// /proc/PID/mem. Errors: NotFound (the process ended), PermissionDenied,
// FailedPrecondition when there is none.
absl::StatusOr<Gadgets> find_gadgets(pid_t pid, int memory);

}  // namespace godwit
