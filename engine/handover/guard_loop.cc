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
#include "engine/handover/guard_watch.h"

namespace godwit {
namespace {

constexpr Duration kTakeOverLimit = std::chrono::seconds(60);

enum class Wake { kMessage, kAgentGone, kDeadline };

Wake wait_for_agent(int socket, std::optional<MonotonicTime> deadline, GuardMessage& message) {
    if (!wait_readable(socket, -1, deadline).ok()) return Wake::kDeadline;
    const ssize_t got = ::recv(socket, &message, sizeof message, 0);
    return got == static_cast<ssize_t>(sizeof message) ? Wake::kMessage : Wake::kAgentGone;
}

int rescue_guest(GuestRescue& rescue, bool run, const char* why) {
    std::fprintf(stderr, "guard: %s: giving the guest back to the source\n", why);
    const absl::Status status = give_guest_back(rescue, run, [](Duration time) {
        (void)wait_readable(-1, -1, Clock::system().now() + time);
    });
    std::fprintf(stderr, "guard: %s\n",
                 status.ok() ? "the guest is at the source" : status.ToString().c_str());
    return status.ok() ? 0 : 1;
}

}  // namespace

std::optional<bool> await_guard_begin(int socket) {
    GuardMessage message;
    if (wait_for_agent(socket, std::nullopt, message) != Wake::kMessage ||
        message.kind != GuardMessageKind::kBegin)
        return std::nullopt;
    return message.run != 0;
}

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

    GuardWatch watch(*word);
    using Act = GuardWatch::Act;
    while (true) {
        const Wake wake = wait_for_agent(socket, watch.deadline(), message);
        const Act act = wake == Wake::kMessage     ? watch.heard(message)
                        : wake == Wake::kAgentGone ? watch.agent_is_gone()
                                                   : watch.deadline_has_passed();
        switch (act) {
            case Act::kListen:
                break;
            case Act::kConfirmArmed:
                message.kind = GuardMessageKind::kArmed;
                (void)::send(socket, &message, sizeof message, MSG_NOSIGNAL);
                break;
            case Act::kEnd:
                return 0;
            case Act::kRescue:
                return rescue_guest(rescue, run, "the agent is gone");
            case Act::kTakeOver:
                if (const absl::Status taken = rescue.take_over(kTakeOverLimit); !taken.ok())
                    std::fprintf(stderr, "guard: %s\n", taken.ToString().c_str());
                (void)rescue_guest(rescue, run, "the freeze deadline has passed");
                break;
            case Act::kHelp:
                (void)rescue_guest(rescue, run, "the agent has aborted, and is not done");
                break;
        }
    }
}

}  // namespace godwit
