#include "engine/destination/recovery_plan.h"

namespace godwit {
namespace {

DestinationRecovery plan_of_committed(const FoundAtDestination& found) {
    // No answer, and the record stays: a later agent may be able to adopt it.
    if (!found.has_vm())
        return found.left_alone() ? DestinationRecovery::kNoAnswer
                                  : DestinationRecovery::kGuestGone;
    if (found.record.postcopy() || found.record.phase() == v1::JOURNAL_PHASE_DRAINING)
        return DestinationRecovery::kDrain;
    return found.record.was_running() ? DestinationRecovery::kResume
                                      : DestinationRecovery::kArrived;
}

// COMMIT may have come before the host was restarted, and been noted in memory only: REFUSED would
// be a guess. But whatever ran then has ended.
DestinationRecovery plan_of_earlier_boot(const FoundAtDestination& found) {
    const bool is_known = !found.record.boot_id().empty() && !found.boot_id.empty();
    // A QEMU of an earlier boot can't be here: then one of the two says what is not so.
    return is_known && !found.has_vm() ? DestinationRecovery::kWasLost
                                       : DestinationRecovery::kNoAnswer;
}

// REFUSED lets the source run the guest: not while a QEMU may live here.
DestinationRecovery plan_of_stale(const FoundAtDestination& found) {
    return !found.has_vm() && found.left_alone() ? DestinationRecovery::kNoAnswer
                                                 : DestinationRecovery::kEndStale;
}

}  // namespace

DestinationRecovery plan_destination_recovery(const FoundAtDestination& found) {
    switch (found.record.phase()) {
        case v1::JOURNAL_PHASE_LIVE:
            // The stale copy is never started.
            return found.record.boot_id() == found.boot_id ? plan_of_stale(found)
                                                           : plan_of_earlier_boot(found);
        case v1::JOURNAL_PHASE_CONT:
            return found.has_vm() && found.given_back() ? DestinationRecovery::kEndStale
                                                        : plan_of_committed(found);
        case v1::JOURNAL_PHASE_DRAINING:
            return plan_of_committed(found);
        case v1::JOURNAL_PHASE_RESUMED:
            return found.record.arrival_owed() && found.has_vm() ? DestinationRecovery::kArrived
                                                                 : DestinationRecovery::kAnswer;
        default:
            return DestinationRecovery::kAnswer;
    }
}

absl::Status resume_until_it_runs(const std::function<absl::Status()>& resume,
                                  const std::function<bool()>& wait_to_ask_again,
                                  const std::function<void(const absl::Status&)>& trouble) {
    std::string last_said;
    while (true) {
        const absl::Status resumed = resume();
        if (resumed.ok() || absl::IsNotFound(resumed)) return resumed;
        if (resumed.message() != last_said) trouble(resumed);
        last_said = std::string(resumed.message());
        if (!wait_to_ask_again()) return absl::CancelledError("the agent ends");
    }
}

}  // namespace godwit
