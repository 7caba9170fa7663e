#include "dirty-tracking/attach/tracee.h"

#include <elf.h>
#include <fmt/format.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <fstream>

#include "dirty-tracking/attach/thread_choice.h"

namespace godwit {
namespace {

// XSAVE's standard form with AMX takes 11 KiB.
constexpr size_t kVectorStateLimit = size_t{32} << 10;
std::string yama_scope() {
    std::ifstream file("/proc/sys/kernel/yama/ptrace_scope");
    std::string value;
    return file >> value ? value : "absent";
}

}  // namespace

absl::Status Tracee::failed(const char* request) const {
    if (errno == ESRCH) {
        return absl::NotFoundError(fmt::format("thread {} of process {} ended", thread_, process_));
    }
    return errno_status(errno, fmt::format("ptrace({}) of thread {}", request, thread_));
}

absl::Status Tracee::seize() {
    if (::ptrace(PTRACE_SEIZE, thread_, nullptr, static_cast<long>(PTRACE_O_TRACESYSGOOD)) == 0)
        return absl::OkStatus();
    if (errno != EPERM) return failed("PTRACE_SEIZE");
    if (const pid_t tracer = tracer_of(process_, thread_); tracer != 0) {
        return absl::FailedPreconditionError(
            fmt::format("process {} is traced by process {} (a debugger, strace?): stop that first",
                        process_, tracer));
    }
    return absl::PermissionDeniedError(fmt::format(
        "ptrace(PTRACE_SEIZE) of process {}: EPERM; the agent needs CAP_SYS_PTRACE, or the same "
        "user as QEMU and kernel.yama.ptrace_scope=0 (now {})",
        process_, yama_scope()));
}

absl::Status Tracee::interrupt() {
    if (::ptrace(PTRACE_INTERRUPT, thread_, nullptr, nullptr) == 0) return absl::OkStatus();
    return failed("PTRACE_INTERRUPT");
}

absl::StatusOr<TraceStop> Tracee::wait_stop(const std::atomic<bool>& give_up) {
    int status = 0;
    pid_t got = -1;
    do {
        if (give_up.load()) {
            return absl::DeadlineExceededError(
                fmt::format("thread {} of process {} did not stop", thread_, process_));
        }
        got = ::waitpid(thread_, &status, __WALL);
    } while (got < 0 && errno == EINTR);
    if (got < 0 || !WIFSTOPPED(status)) {
        errno = ESRCH;
        return failed("waitpid");
    }
    const int signal = WSTOPSIG(status);
    if (signal == (SIGTRAP | 0x80)) return TraceStop{TraceStop::Kind::kSyscall};
    // Also a stop by SIGSTOP and its like, which is a trap for a seized thread.
    if (status >> 16 == PTRACE_EVENT_STOP) return TraceStop{TraceStop::Kind::kTrap};
    return TraceStop{TraceStop::Kind::kSignal, signal};
}

absl::Status Tracee::resume(int signal) {
    if (::ptrace(PTRACE_CONT, thread_, nullptr, static_cast<long>(signal)) == 0)
        return absl::OkStatus();
    return failed("PTRACE_CONT");
}

absl::Status Tracee::resume_to_syscall() {
    if (::ptrace(PTRACE_SYSCALL, thread_, nullptr, nullptr) == 0) return absl::OkStatus();
    return failed("PTRACE_SYSCALL");
}

absl::Status Tracee::detach(int signal) {
    if (::ptrace(PTRACE_DETACH, thread_, nullptr, static_cast<long>(signal)) == 0)
        return absl::OkStatus();
    return failed("PTRACE_DETACH");
}

absl::Status Tracee::read_state(ThreadState& state) {
    GODWIT_RETURN_IF_ERROR(read_registers(state.registers));
    state.vector_state.resize(kVectorStateLimit);
    iovec vectors{state.vector_state.data(), state.vector_state.size()};
    if (::ptrace(PTRACE_GETREGSET, thread_, static_cast<long>(NT_X86_XSTATE), &vectors) != 0)
        return failed("PTRACE_GETREGSET");
    state.vector_state.resize(vectors.iov_len);
    if (::ptrace(PTRACE_GETSIGMASK, thread_, sizeof state.blocked_signals,
                 &state.blocked_signals) != 0)
        return failed("PTRACE_GETSIGMASK");
    return absl::OkStatus();
}

absl::Status Tracee::read_registers(user_regs_struct& registers) {
    if (::ptrace(PTRACE_GETREGS, thread_, nullptr, &registers) == 0) return absl::OkStatus();
    return failed("PTRACE_GETREGS");
}

absl::Status Tracee::write_registers(const user_regs_struct& registers) {
    if (::ptrace(PTRACE_SETREGS, thread_, nullptr, &registers) == 0) return absl::OkStatus();
    return failed("PTRACE_SETREGS");
}

bool Tracee::has_pending_sigsys() const {
    std::array<siginfo_t, 16> pending{};
    __ptrace_peeksiginfo_args arguments{.off = 0, .flags = 0, .nr = pending.size()};
    const long count = ::ptrace(PTRACE_PEEKSIGINFO, thread_, &arguments, pending.data());
    for (long i = 0; i < count; ++i)
        if (pending[static_cast<size_t>(i)].si_signo == SIGSYS) return true;
    return false;
}

uint64_t Tracee::rseq_area() const {
    __ptrace_rseq_configuration configuration{};
    if (::ptrace(PTRACE_GET_RSEQ_CONFIGURATION, thread_, sizeof configuration, &configuration) <= 0)
        return 0;
    return configuration.rseq_abi_pointer;
}

}  // namespace godwit
