#include "engine/source/recovery_plan.h"

namespace godwit {
namespace {

bool froze(const FoundAtSource& found) {
    return found.record.phase() == v1::JOURNAL_PHASE_FREEZING;
}

bool is_resolved(const FoundAtSource& found) {
    return found.record.resolution() != v1::RESOLUTION_NONE;
}

}  // namespace

bool may_have_committed(const FoundAtSource& found) {
    // A word that can't be read may say COMMIT: the destination knows.
    return froze(found) && !is_resolved(found) &&
           (!found.word.ok() || *found.word == Verdict::kCommit);
}

SourceRecovery plan_source_recovery(const FoundAtSource& found) {
    const bool committed = may_have_committed(found);
    // Only REFUSED, or an operator, lets a guest of which COMMIT was sent run here again.
    if (committed && found.vm && found.runs()) return SourceRecovery::kWasGivenBack;
    if (froze(found) && found.record.resolution() == v1::RESOLUTION_AT_DESTINATION)
        return SourceRecovery::kIsElsewhere;
    if (found.record.resolution() == v1::RESOLUTION_NOWHERE) return SourceRecovery::kIsNowhere;
    const bool drained = found.record.phase() == v1::JOURNAL_PHASE_DRAINING;
    // Let go of already, for the drain was over; or lost in a power cut. The destination knows.
    if ((drained || (committed && found.record.postcopy())) && found.has_kept_ram())
        return SourceRecovery::kDrain;
    // The word is no proof against a power cut, for nobody waits in the pause for it to reach the
    // disk: where the QEMU has ended too, only the destination knows.
    const bool lost = froze(found) && !found.vm && !found.left_alone && !is_resolved(found);
    if (drained || committed || lost) return SourceRecovery::kAsk;
    if (found.left_alone) return SourceRecovery::kNeedsOperator;
    if (!found.vm) return SourceRecovery::kHasDied;
    // FREEZING is on the disk before a guard or the freeze begins. Until then whoever pauses the
    // guest, or lets it run, has the last word.
    return froze(found) ? SourceRecovery::kGiveBack : SourceRecovery::kWasNotFrozen;
}

v1::Resolution resolution_of(Fate fate) {
    switch (fate) {
        case Fate::kAtDestination:
            return v1::RESOLUTION_AT_DESTINATION;
        case Fate::kRefused:
            return v1::RESOLUTION_AT_SOURCE;
        case Fate::kNowhere:
            return v1::RESOLUTION_NOWHERE;
    }
    return v1::RESOLUTION_NONE;
}

}  // namespace godwit
