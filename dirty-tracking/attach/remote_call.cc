#include "dirty-tracking/attach/remote_call.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <future>
#include <thread>

#include "dirty-tracking/attach/tracee.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr uint64_t kUserCode64 = 0x33;  // code segment of 64-bit processes
constexpr int kMaxStops = 64;           // stops that are not ours, before we give up

class Caller {
  public:
    Caller(const RemoteCall& call, const std::atomic<bool>& give_up)
        : call_(call), give_up_(give_up), tracee_(call.process, call.thread) {}

    absl::StatusOr<RemoteResult> run() {
        // Memory for the thread's state is taken before it is held.
        state_.vector_state.reserve(size_t{32} << 10);
        frame_.bytes.reserve(size_t{40} << 10);
        GODWIT_RETURN_IF_ERROR(tracee_.seize());
        step(AttachStep::kSeized);
        begin_ = Clock::system().now();
        GODWIT_RETURN_IF_ERROR(stop_thread());
        step(AttachStep::kStopped);
        if (absl::Status status = prepare_way_back(); !status.ok()) {
            (void)tracee_.detach(0);  // nothing was changed; if it ended, that is fine too
            return status;
        }
        GODWIT_RETURN_IF_ERROR(enter_call());
        return finish_call();
    }

  private:
    void step(AttachStep step) const {
        if (call_.after_step) call_.after_step(step);
    }

    // A signal that was on its way already stops the thread first: it is let through.
    absl::Status stop_thread() {
        GODWIT_RETURN_IF_ERROR(tracee_.interrupt());
        step(AttachStep::kInterrupted);
        for (int i = 0; i < kMaxStops; ++i) {
            GODWIT_ASSIGN_OR_RETURN(const TraceStop stop, tracee_.wait_stop(give_up_));
            if (stop.kind == TraceStop::Kind::kTrap) return absl::OkStatus();
            GODWIT_RETURN_IF_ERROR(tracee_.resume(stop.signal));
        }
        return absl::AbortedError(fmt::format("thread {} gets too many signals", call_.thread));
    }

    absl::Status prepare_way_back() {
        GODWIT_RETURN_IF_ERROR(tracee_.read_state(state_));
        step(AttachStep::kStateRead);
        if (state_.registers.cs != kUserCode64)
            return absl::FailedPreconditionError("the process is not a 64-bit x86 program");
        if (in_restartable_sequence())
            return absl::AbortedError("the thread is in a restartable sequence");
        GODWIT_ASSIGN_OR_RETURN(const uint64_t number, restart_number());
        GODWIT_RETURN_IF_ERROR(
            build_return_frame(state_, number, call_.gadgets.restore_registers, frame_));
        const ssize_t put = ::pwrite(call_.memory, frame_.bytes.data(), frame_.bytes.size(),
                                     static_cast<off_t>(frame_.address));
        if (put != static_cast<ssize_t>(frame_.bytes.size()))
            return absl::AbortedError(
                fmt::format("thread {} has no room on its stack", call_.thread));
        step(AttachStep::kFrameWritten);
        return absl::OkStatus();
    }

    // The kernel aborts a restartable sequence (rseq(2)) that it is interrupted in, by looking at
    // the program counter: ours would hide it. A blocked thread is in none.
    bool in_restartable_sequence() const {
        constexpr uint64_t kOffsetOfDescriptor = 8;
        if (static_cast<int64_t>(state_.registers.orig_rax) >= 0) return false;
        const uint64_t area = tracee_.rseq_area();
        uint64_t descriptor = 0;
        if (area == 0 || ::pread(call_.memory, &descriptor, sizeof descriptor,
                                 static_cast<off_t>(area + kOffsetOfDescriptor)) !=
                             static_cast<ssize_t>(sizeof descriptor))
            return false;
        return descriptor != 0;
    }

    // The number with which the way back starts the interrupted call again. A call that the kernel
    // restarted before goes by restart_syscall, which rt_sigreturn makes useless; its real number
    // is in the instruction before: mov $number, %eax; syscall.
    absl::StatusOr<uint64_t> restart_number() const {
        const auto& registers = state_.registers;
        if (!restarts_call(registers) || registers.orig_rax != SYS_restart_syscall)
            return registers.orig_rax;
        constexpr size_t kInstructionBytes = 7;
        std::array<uint8_t, kInstructionBytes> code{};
        const ssize_t got = ::pread(call_.memory, code.data(), code.size(),
                                    static_cast<off_t>(registers.rip - code.size()));
        if (got != static_cast<ssize_t>(code.size()) || code[0] != 0xb8)
            return absl::AbortedError("the thread is in a call that was restarted before");
        uint32_t number = 0;
        std::memcpy(&number, &code[1], sizeof number);
        return number;
    }

    absl::Status enter_call() {
        user_regs_struct redirected = state_.registers;
        redirected.rip = call_.gadgets.syscall_return;
        redirected.rsp = frame_.address;
        redirected.rax = static_cast<uint64_t>(call_.number);
        redirected.orig_rax = ~uint64_t{0};  // in no system call: nothing to restart
        redirected.rdi = call_.arguments[0];
        redirected.rsi = call_.arguments[1];
        redirected.rdx = call_.arguments[2];
        GODWIT_RETURN_IF_ERROR(tracee_.write_registers(redirected));
        step(AttachStep::kRedirected);
        for (int i = 0; i < kMaxStops; ++i) {
            GODWIT_RETURN_IF_ERROR(tracee_.resume_to_syscall());
            GODWIT_ASSIGN_OR_RETURN(const TraceStop stop, tracee_.wait_stop(give_up_));
            if (stop.kind == TraceStop::Kind::kSyscall) {
                step(AttachStep::kCallEntered);
                return absl::OkStatus();
            }
            if (stop.kind == TraceStop::Kind::kSignal) return give_way(stop.signal);
        }
        return absl::AbortedError(fmt::format("thread {} does not run", call_.thread));
    }

    // A signal came before the call: the thread takes it where it was.
    absl::Status give_way(int signal) {
        GODWIT_RETURN_IF_ERROR(tracee_.write_registers(state_.registers));
        GODWIT_RETURN_IF_ERROR(tracee_.detach(signal));
        return absl::AbortedError(fmt::format("signal {} came to thread {}", signal, call_.thread));
    }

    // The stop after the call lies where the kernel looks at signals, and there alone it restarts
    // an interrupted call, with its remaining time; hence the second interrupt.
    absl::StatusOr<RemoteResult> finish_call() {
        GODWIT_RETURN_IF_ERROR(tracee_.interrupt());
        step(AttachStep::kSecondInterrupt);
        GODWIT_RETURN_IF_ERROR(tracee_.resume(0));
        GODWIT_ASSIGN_OR_RETURN(TraceStop stop, tracee_.wait_stop(give_up_));
        step(AttachStep::kCallReturned);
        user_regs_struct after{};
        GODWIT_RETURN_IF_ERROR(tracee_.read_registers(after));
        // A trapping seccomp filter leaves the call's number as its result and a SIGSYS behind.
        const bool filtered =
            after.rax == static_cast<uint64_t>(call_.number) && tracee_.has_pending_sigsys();
        if (filtered && stop.kind == TraceStop::Kind::kTrap) {
            GODWIT_RETURN_IF_ERROR(tracee_.resume(0));
            GODWIT_ASSIGN_OR_RETURN(stop, tracee_.wait_stop(give_up_));
        }
        GODWIT_RETURN_IF_ERROR(tracee_.write_registers(state_.registers));
        step(AttachStep::kRestored);
        const bool ours = filtered && stop.signal == SIGSYS;
        GODWIT_RETURN_IF_ERROR(tracee_.detach(ours ? 0 : stop.signal));
        const Duration hold = Clock::system().now() - begin_;
        step(AttachStep::kDetached);
        if (filtered)
            return absl::PermissionDeniedError("the process's seccomp filter refuses the call");
        return RemoteResult{static_cast<int64_t>(after.rax), hold};
    }

    const RemoteCall& call_;
    const std::atomic<bool>& give_up_;
    Tracee tracee_;
    ThreadState state_;
    ReturnFrame frame_;
    MonotonicTime begin_;
};

// Ends the tracer's waitpid. By default nobody notices this signal.
constexpr int kWakeSignal = SIGURG;

void unblock_wake_signal() {
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, kWakeSignal);
    ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

// Interrupts what `thread` blocks in, again and again (it may just be about to block), until it
// has ended. The handler does nothing. It stays: another attach of this process may need it now.
void interrupt_until(std::thread& thread, const std::future<void>& ended) {
    constexpr std::chrono::milliseconds kAgainAfter{5};
    struct sigaction action {};
    action.sa_handler = [](int) {};
    ::sigaction(kWakeSignal, &action, nullptr);
    do {
        ::pthread_kill(thread.native_handle(), kWakeSignal);
    } while (ended.wait_for(kAgainAfter) != std::future_status::ready);
}

}  // namespace

absl::StatusOr<RemoteResult> make_remote_call(const RemoteCall& call) {
    absl::StatusOr<RemoteResult> result = absl::UnknownError("no result");
    std::atomic<bool> give_up{false};
    std::promise<void> promise;
    const std::future<void> ended = promise.get_future();
    std::thread tracer([&] {
        set_thread_name("godwit-attach");
        unblock_wake_signal();
        result = Caller(call, give_up).run();
        promise.set_value();
    });
    if (ended.wait_until(call.deadline) != std::future_status::ready) {
        give_up = true;
        interrupt_until(tracer, ended);
    }
    tracer.join();  // what it still traces is detached by the kernel
    return result;
}

}  // namespace godwit
