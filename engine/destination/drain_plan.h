// What a destination does in a drain whenever it has no connection to the source.
#pragma once

#include "engine/handover/phases.h"

namespace godwit {

struct DrainHere {
    DestinationPhase phase = DestinationPhase::kDraining;
    bool source_comes = false;  // it was let in, and has not been heard yet
    bool guest_gone = false;    // its QEMU has ended
    bool complete = false;      // no page is missing
};

enum class DrainNext {
    kWait,
    kServe,      // the source comes with a new connection
    kEnd,        // every page is here: nobody is needed for more
    kGuestGone,  // nothing is left to be drained
    kOver,       // it is no drain any more
};

// COMMIT came, and pages are missing or may be.
bool is_drain(DestinationPhase phase);
DrainNext next_in_drain(const DrainHere& here);

}  // namespace godwit
