#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>

#include "engine/base/wait.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/guard.h"
#include "engine/handover/guard_protocol.h"

namespace godwit {
namespace {

// How long the guest may take to run again; QEMU answers in milliseconds unless its disk hangs.
constexpr Duration kRescueLimit = std::chrono::seconds(60);

enum class Wake { kMessage, kAgentGone, kDeadline };

Wake wait_for_agent(int socket, std::optional<MonotonicTime> deadline, GuardMessage& message) {
    if (!wait_readable(socket, -1, deadline).ok()) return Wake::kDeadline;
    const ssize_t got = ::recv(socket, &message, sizeof message, 0);
    return got == static_cast<ssize_t>(sizeof message) ? Wake::kMessage : Wake::kAgentGone;
}

int rescue_guest(GuestRescue& rescue, bool run, const char* why) {
    std::fprintf(stderr, "guard: %s: giving the guest back to the source\n", why);
    // The agent may have sent its last command just before it died: one that QEMU carries out after
    // the first rescue is undone by the second.
    absl::Status status = rescue.roll_back(run, kRescueLimit);
    if (status.ok()) {
        (void)wait_readable(-1, -1, Clock::system().now() + std::chrono::milliseconds(300));
        status = rescue.roll_back(run, kRescueLimit);
    }
    std::fprintf(stderr, "guard: %s\n",
                 status.ok() ? "the guest is at the source" : status.ToString().c_str());
    return status.ok() ? 0 : 1;
}

}  // namespace

int run_guard(int socket, const std::string& word_path, bool run, GuestRescue& rescue) {
    absl::StatusOr<DecisionWord> word = DecisionWord::open(word_path);
    if (!word.ok()) {
        std::fprintf(stderr, "guard: %s\n", word.status().ToString().c_str());
        return 1;
    }
    // Held until this process ends; see await_guard_end().
    const UniqueFd lock(::open(word_path.c_str(), O_RDWR | O_CLOEXEC));
    if (!lock.valid() || ::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
        std::perror("guard: cannot lock the word");
        return 1;
    }
    GuardMessage message{.kind = GuardMessageKind::kReady};
    if (::send(socket, &message, sizeof message, MSG_NOSIGNAL) < 0) return 1;

    std::optional<MonotonicTime> deadline;
    while (true) {
        switch (wait_for_agent(socket, deadline, message)) {
            case Wake::kMessage:
                if (message.kind == GuardMessageKind::kDismiss) return 0;
                if (message.kind == GuardMessageKind::kArm) {
                    deadline = MonotonicTime(std::chrono::nanoseconds(message.deadline_ns));
                    message.kind = GuardMessageKind::kArmed;
                    (void)::send(socket, &message, sizeof message, MSG_NOSIGNAL);
                }
                break;
            case Wake::kAgentGone:
                if (!deadline) return 0;  // never armed: nothing was frozen
                if (!word->decide(Verdict::kAbort)) return 0;
                return rescue_guest(rescue, run, "the agent is gone");
            case Wake::kDeadline:
                // An agent that was first to say ABORT rolls back itself, and is not ended: it may
                // have hung since, or QEMU has, whom both then ask in vain.
                if (word->read() == Verdict::kAbort) {
                    (void)rescue_guest(rescue, run, "the agent has aborted, and is not done");
                } else if (word->decide(Verdict::kAbort)) {
                    if (const absl::Status taken = rescue.take_over(kRescueLimit); !taken.ok())
                        std::fprintf(stderr, "guard: %s\n", taken.ToString().c_str());
                    (void)rescue_guest(rescue, run, "the freeze deadline has passed");
                }
                // Decided either way. An agent that dies in its own rollback is still seen.
                deadline = MonotonicTime::max();
                break;
        }
    }
}

}  // namespace godwit
