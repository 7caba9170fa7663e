#include "tests/sim/guard.h"

namespace godwit::sim {

void Guard::start() {
    hosts_.world.spawn(process_, "guard", [self = shared_from_this()] { self->watch(); });
}

absl::Status Guard::roll_back(bool run, Duration limit) {
    return hosts_.source_qemu->roll_back(run, limit);
}

void Guard::watch() {
    GuardWatch watch(word_);
    while (true) {
        const bool heard = hosts_.world.wait(watch.deadline().value_or(MonotonicTime::max()),
                                             [this] { return !inbox_.empty() || !agent_->alive; });
        GuardWatch::Act next{};
        if (!inbox_.empty()) {
            next = watch.heard(inbox_.front());
            inbox_.pop_front();
        } else {
            next = heard ? watch.agent_is_gone() : watch.deadline_has_passed();
            if (hosts_.mutant == Mutant::kGuardIgnoresTheWord && watch.deadline() && heard)
                next = GuardWatch::Act::kRescue;
        }
        if (!act(next)) break;
    }
    hosts_.world.say("guard: ends");
    process_->alive = false;
}

bool Guard::act(GuardWatch::Act act) {
    const auto pause = [this](Duration time) { hosts_.world.sleep(time); };
    switch (act) {
        case GuardWatch::Act::kListen:
            return true;
        case GuardWatch::Act::kConfirmArmed:
            armed_ = true;
            return true;
        case GuardWatch::Act::kEnd:
            return false;
        case GuardWatch::Act::kRescue:
            hosts_.world.say("guard: the agent is gone, the guest is given back");
            give_guest_back(*this, run_, pause).IgnoreError();
            return false;
        case GuardWatch::Act::kHelp:
            hosts_.world.say("guard: the agent aborts and is not done, the guest is given back");
            give_guest_back(*this, run_, pause).IgnoreError();
            return true;
        case GuardWatch::Act::kTakeOver:
            hosts_.world.say("guard: the deadline has passed, the guest is given back");
            give_guest_back(*this, run_, pause).IgnoreError();
            return true;
    }
    return true;
}

}  // namespace godwit::sim
