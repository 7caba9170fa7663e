// HeldRounds: which live rounds the policy's limits are about, where a migration waits to be told
// to proceed. Pure.
//
//   rounds ─► ready, and held: idle rounds keep the rest small ─► let go on: counted anew ─► switch
#pragma once

#include "engine/base/units.h"
#include "engine/model/convergence.h"

namespace godwit {

// Whether the guest is to be frozen, whatever follows.
bool leaves_the_rounds(NextStep step);

class HeldRounds {
  public:
    // A round that looked at so many page bytes is over; `is_held`: it may not switch over yet.
    void note(Bytes page_bytes, bool is_held);
    // The policy has decided. True: the migration is ready, or was: it waits, and then does step().
    bool waits(NextStep decided, bool is_held);
    // Held, it has time: nothing is given up, nor are vCPUs held back, for a guest that writes more
    // for a while.
    static NextStep step(NextStep decided);

    // What the limits on the rounds are about: an hour of idle rounds is no sign of rounds that
    // lead nowhere, and a guest that was ready once has as many rounds as before to be so again.
    [[nodiscard]] uint32_t rounds_done() const { return rounds_done_; }
    [[nodiscard]] Bytes page_bytes() const { return page_bytes_; }
    // Whether the last round only kept the rest small.
    [[nodiscard]] bool is_idle() const { return is_idle_; }

  private:
    uint32_t rounds_done_ = 0;
    Bytes page_bytes_ = 0;
    bool was_ready_ = false;
    bool is_idle_ = false;
};

}  // namespace godwit
