#include "engine/source/held_rounds.h"

namespace godwit {

bool leaves_the_rounds(NextStep step) {
    return step == NextStep::kSwitch || step == NextStep::kStopAndCopy ||
           step == NextStep::kPostcopy;
}

void HeldRounds::note(Bytes page_bytes, bool is_held) {
    is_idle_ = was_ready_ && is_held;
    if (is_idle_) return;
    if (was_ready_) {
        was_ready_ = false;
        rounds_done_ = 0;
        page_bytes_ = 0;
    }
    ++rounds_done_;
    page_bytes_ += page_bytes;
}

bool HeldRounds::waits(NextStep decided, bool is_held) {
    if (!is_held) return false;
    was_ready_ |= leaves_the_rounds(decided);
    return was_ready_;
}

NextStep HeldRounds::step(NextStep decided) {
    return decided == NextStep::kSettlingRound ? decided : NextStep::kRound;
}

}  // namespace godwit
