#include "engine/destination/drain_plan.h"

namespace godwit {

bool is_drain(DestinationPhase phase) {
    return phase == DestinationPhase::kCommittedServing || phase == DestinationPhase::kDraining;
}

DrainNext next_in_drain(const DrainHere& here) {
    if (!is_drain(here.phase)) return DrainNext::kOver;
    if (here.guest_gone) return DrainNext::kGuestGone;
    if (here.source_comes) return DrainNext::kServe;
    // Before it runs here, its agent does not know whether it will.
    if (here.complete && here.phase == DestinationPhase::kDraining) return DrainNext::kEnd;
    return DrainNext::kWait;
}

}  // namespace godwit
