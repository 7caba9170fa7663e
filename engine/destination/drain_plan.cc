#include "engine/destination/drain_plan.h"

namespace godwit {

bool is_drain(DestinationPhase phase) {
    return phase == DestinationPhase::kCommittedServing || phase == DestinationPhase::kDraining;
}

DrainNext next_in_drain(const DrainHere& here) {
    if (!is_drain(here.phase)) return DrainNext::kOver;
    // Before, whoever carries out COMMIT says whether the guest has run here.
    const bool is_here = here.phase == DestinationPhase::kDraining;
    if (is_here && here.guest_gone) return DrainNext::kGuestGone;
    if (here.source_comes) return DrainNext::kServe;
    if (is_here && here.complete) return DrainNext::kEnd;
    return DrainNext::kWait;
}

}  // namespace godwit
