#include "engine/destination/commit_order.h"

#include "engine/handover/step_hook.h"

namespace godwit {
namespace {

constexpr const char* kEndedBeforeCont = "its QEMU ended before it was asked to run the guest";

// Ok: the guest is this side's, running or crashed. Cancelled: the agent ends before QEMU has said.
// Another error: it has never run here, for QEMU was not asked, answered `cont` with an error, or
// was being killed when it was asked.
absl::Status resume_guest(CommitSteps& steps, bool run) {
    if (steps.qemu_has_ended()) return absl::UnavailableError(kEndedBeforeCont);
    bool events_lost = false;
    while (run) {
        const absl::Status status = steps.resume();
        if (status.ok()) break;
        if (absl::IsNotFound(status)) break;         // QEMU ended: `cont` may have been carried out
        if (absl::IsAborted(status)) return status;  // it ended, and has never run the guest
        if (absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status)) {
            // No answer is no refusal either. Asked again until QEMU says.
            events_lost |= absl::IsUnavailable(status);
            if (!steps.wait_to_ask_again()) return absl::CancelledError("the agent ends");
            continue;
        }
        // RESUME comes before the answer to the `cont` that caused it, on the same connection. A
        // guest that has run, and stopped by itself since, is here.
        if (!steps.has_run() && !events_lost) return status;
        break;
    }
    return absl::OkStatus();
}

// COMMIT came, and the guest has never run here: QEMU is dead and reaped before the source hears
// it.
absl::StatusOr<CommitHere> refuse_commit(CommitSteps& steps, const absl::Status& reason,
                                         bool cont_is_noted) {
    // An agent that comes back after our death must not resume what QEMU refused to run. Nor may it
    // find CONT and no QEMU, and take the guest for one that ran here and died: the source would
    // end the only copy. So QEMU lives until that is noted.
    while (!steps.note(v1::JOURNAL_PHASE_LIVE, "").ok() && cont_is_noted)
        if (!steps.wait_to_ask_again()) return absl::CancelledError("the agent ends");
    steps.at_step(step::kContRefused);
    const std::string why(reason.message());
    if (!refuse_here(steps, why)) return reason;
    GODWIT_RETURN_IF_ERROR(steps.tell_refused(why));
    return CommitHere::kRefused;
}

}  // namespace

absl::StatusOr<CommitHere> commit_here(CommitSteps& steps, bool run_guest) {
    // A successor that finds CONT, and no QEMU, takes the guest for one that ran here and died.
    if (steps.qemu_has_ended())
        return refuse_commit(steps, absl::UnavailableError(kEndedBeforeCont), false);
    absl::Status resumed = steps.note(v1::JOURNAL_PHASE_CONT, "");
    const bool cont_is_noted = resumed.ok();
    steps.at_step(step::kContNoted);
    if (resumed.ok()) resumed = steps.await_mapping_check();
    if (resumed.ok()) resumed = resume_guest(steps, run_guest);
    if (resumed.ok()) return CommitHere::kGuestIsHere;
    if (absl::IsCancelled(resumed)) return resumed;
    return refuse_commit(steps, resumed, cont_is_noted);
}

bool refuse_here(CommitSteps& steps, const std::string& why) {
    // Still COMMITTED or WAITING for whoever asks: never REFUSED while its QEMU may live.
    if (!steps.kill().ok()) return false;
    steps.note(v1::JOURNAL_PHASE_REFUSED, why).IgnoreError();
    steps.now_refused(why);
    return true;
}

}  // namespace godwit
