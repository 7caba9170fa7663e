#include "engine/handover/guard_watch.h"

namespace godwit {
namespace {

// How long the guest may take to run again; QEMU answers in milliseconds unless its disk hangs.
constexpr Duration kRescueLimit = std::chrono::seconds(60);
constexpr Duration kBetweenRescues = std::chrono::milliseconds(300);

}  // namespace

GuardWatch::Act GuardWatch::heard(const GuardMessage& message) {
    if (message.kind == GuardMessageKind::kDismiss) return Act::kEnd;
    if (message.kind != GuardMessageKind::kArm) return Act::kListen;
    deadline_ = MonotonicTime(std::chrono::nanoseconds(message.deadline_ns));
    return Act::kConfirmArmed;
}

GuardWatch::Act GuardWatch::agent_is_gone() {
    if (!deadline_) return Act::kEnd;  // never armed: nothing was frozen
    return word_.decide(Verdict::kAbort) ? Act::kRescue : Act::kEnd;
}

GuardWatch::Act GuardWatch::deadline_has_passed() {
    // Decided either way. An agent that dies in its own rollback is still seen.
    deadline_ = MonotonicTime::max();
    if (word_.decide_first(Verdict::kAbort)) return Act::kTakeOver;
    // One that was first to say ABORT rolls back itself, and is not ended: it may have hung since,
    // or QEMU has, whom both then ask in vain.
    return word_.read() == Verdict::kAbort ? Act::kHelp : Act::kListen;
}

absl::Status give_guest_back(GuestRescue& rescue, bool run,
                             const std::function<void(Duration)>& pause) {
    GODWIT_RETURN_IF_ERROR(rescue.roll_back(run, kRescueLimit));
    pause(kBetweenRescues);
    return rescue.roll_back(run, kRescueLimit);
}

}  // namespace godwit
