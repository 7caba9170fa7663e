// Attach: a userfaultfd that covers the memory of a running QEMU which was not prepared for it.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <span>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// What has just been done to the target, in this order. Every step may be the tracer's last: the
// target goes on whatever happens to us in between.
enum class AttachStep {
    kSeized,           // traced, still running
    kInterrupted,      // asked to stop
    kStopped,          // stopped
    kStateRead,        // registers, vector state and signal mask are known
    kFrameWritten,     // the way back lies below the thread's stack
    kRedirected,       // the registers say: call userfaultfd, then take the way back
    kCallEntered,      // inside the system call
    kSecondInterrupt,  // asked to stop once more
    kCallReturned,     // stopped after the system call
    kRestored,         // the original registers are back
    kDetached,         // runs on
    kDescriptorTaken,  // we hold the descriptor
};
inline constexpr int kAttachStepCount = 12;

struct AttachOptions {
    // For everything together. A thread that does not stop (uninterruptible I/O) is left alone
    // after a part of it and another one is tried.
    std::chrono::milliseconds deadline{2000};
    // A seam for tests: called after each step, on the tracing thread.
    std::function<void(AttachStep)> after_step;
};

struct Attachment {
    UniqueFd userfaultfd;  // close-on-exec and non-blocking; stays open in the target as well
    Duration hold{};       // how long the target's thread stood still; 0 when adopted
    pid_t thread = 0;      // the thread that made the call; 0 when adopted
    bool adopted = false;  // made by an earlier agent: its registrations are still there
};

// Has one thread of `pid` that is none of `vcpu_threads` make a userfaultfd, and takes it; or takes
// the one that an earlier agent had it make. The UFFDIO_API handshake is done with kUffdFeatures.
//
// The call runs on a thread of its own (ptrace belongs to a thread; when it ends, the kernel
// detaches) and is over after options.deadline. No other thread of this process may reap with
// waitpid(-1) meanwhile. What the thread was blocked in is restarted by the kernel with its
// remaining time; epoll_wait, KVM_RUN and their like, which the kernel never restarts, are avoided
// and would return EINTR. If we die half-way the thread finishes the call by itself and restarts
// what it was in (a relative sleep then starts over).
//
// Errors, after each of which the target runs as before: NotFound (no such process, or it ended);
// PermissionDenied (ptrace or userfaultfd not allowed: the message names the setting);
// FailedPrecondition (traced by somebody else; no thread to use; kernel older than 6.7; a shadow
// stack; not 64-bit x86); Aborted (signals came in between each time); DeadlineExceeded;
// Unimplemented (no userfaultfd in this kernel). A seccomp filter of the target that kills on
// userfaultfd would end it: QEMU's own (-sandbox on) allows the call.
absl::StatusOr<Attachment> attach_userfaultfd(pid_t pid, std::span<const pid_t> vcpu_threads,
                                              const AttachOptions& options = {});

}  // namespace godwit
