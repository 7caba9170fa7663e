// The way back of a redirected thread: a signal frame that holds everything it had.
//
// rt_sigreturn(2) takes a frame from the stack and restores general registers, vector registers
// and the signal mask from it. A thread whose registers point at "syscall; ret", with the address
// of the C library's rt_sigreturn on top of such a frame, makes one system call and then goes on
// as before, with nobody's help.
#pragma once

#include <sys/user.h>

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

struct ThreadState {
    user_regs_struct registers{};
    uint64_t blocked_signals = 0;
    std::vector<std::byte> vector_state;  // as PTRACE_GETREGSET NT_X86_XSTATE gives it
};

struct ReturnFrame {
    uint64_t address = 0;  // where `bytes` go; also the stack pointer of the redirected thread
    std::vector<std::byte> bytes;
};

// Whether the thread was interrupted in a system call that the kernel would restart.
bool restarts_call(const user_regs_struct& registers);

// The frame, to be written below the red zone of the thread's stack. A call that would be
// restarted is started again with the number `restart_number`. Reserves memory once: `frame` can be
// used again. Errors: Unimplemented when the vector state has a form that we don't know.
absl::Status build_return_frame(const ThreadState& state, uint64_t restart_number,
                                uint64_t restore_gadget, ReturnFrame& frame);

}  // namespace godwit
