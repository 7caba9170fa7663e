// GuardWatch: what a guard does about what it hears. run_guard() waits and carries it out.
#pragma once

#include <functional>
#include <optional>

#include "engine/base/clock.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/guard.h"
#include "engine/handover/guard_protocol.h"

namespace godwit {

// Not thread-safe; `word` outlives it.
class GuardWatch {
  public:
    enum class Act {
        kListen,
        kConfirmArmed,  // say so to the agent, and listen
        kEnd,           // the guard is not needed
        kRescue,        // the agent is gone and the word says ABORT: give the guest back, and end
        kHelp,          // the agent said ABORT and is not done: give it back beside it, and listen
        kTakeOver,      // the agent hangs and the word says ABORT: give it back, and listen
    };
    explicit GuardWatch(DecisionWord& word) : word_(word) {}

    Act heard(const GuardMessage& message);
    Act agent_is_gone();
    Act deadline_has_passed();
    // None before it was armed.
    [[nodiscard]] std::optional<MonotonicTime> deadline() const { return deadline_; }

  private:
    DecisionWord& word_;
    std::optional<MonotonicTime> deadline_;
};

// Twice, with `pause` between: the agent may have sent its last command just before it died, and
// one that QEMU carries out after the first rescue is undone by the second.
absl::Status give_guest_back(GuestRescue& rescue, bool run,
                             const std::function<void(Duration)>& pause);

}  // namespace godwit
