// Tracee: one thread under ptrace. All calls from the thread that seized it.
#pragma once

#include <sys/types.h>
#include <sys/user.h>

#include <atomic>

#include "dirty-tracking/attach/return_frame.h"
#include "engine/base/status.h"

namespace godwit {

// Why a thread stands still.
struct TraceStop {
    enum class Kind { kTrap, kSyscall, kSignal } kind = Kind::kTrap;
    int signal = 0;  // of kSignal: not delivered yet
};

// Not movable: the thread that ends while it traces lets go of everything, so there is no
// destructor. Errors of all calls: NotFound when the thread ended; others as ptrace's.
class Tracee {
  public:
    Tracee(pid_t process, pid_t thread) : process_(process), thread_(thread) {}
    Tracee(const Tracee&) = delete;
    Tracee& operator=(const Tracee&) = delete;

    // PermissionDenied names the setting; FailedPrecondition when another process traces it.
    absl::Status seize();
    // Asks for a stop of kind kTrap, running or not.
    absl::Status interrupt();
    // Blocks until the thread stands still. A signal that interrupts the call makes it look at
    // `give_up`: when that is set, DeadlineExceeded, and the thread is still traced. (waitpid knows
    // no deadline and there is no descriptor to poll. Looking again and again, or at a real-time
    // priority, held the thread longer on a busy host: p99 of 2–10 ms, against 0.2 ms.)
    absl::StatusOr<TraceStop> wait_stop(const std::atomic<bool>& give_up);
    // Lets it run, with a signal or none (0).
    absl::Status resume(int signal);
    // Lets it run to the next entry or exit of a system call.
    absl::Status resume_to_syscall();
    absl::Status detach(int signal);

    // Reads registers, vector state and signal mask.
    absl::Status read_state(ThreadState& state);
    absl::Status read_registers(user_regs_struct& registers);
    absl::Status write_registers(const user_regs_struct& registers);
    // Whether a SIGSYS waits for this thread: a seccomp filter with the action "trap".
    [[nodiscard]] bool has_pending_sigsys() const;
    // The address of the thread's restartable sequence area, 0 when it has none or we can't tell.
    [[nodiscard]] uint64_t rseq_area() const;

  private:
    [[nodiscard]] absl::Status failed(const char* request) const;

    pid_t process_;
    pid_t thread_;
};

}  // namespace godwit
