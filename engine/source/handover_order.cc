#include "engine/source/handover_order.h"

#include "engine/handover/step_hook.h"

namespace godwit {

absl::Status freeze_in_order(HandoverSteps& steps) {
    GODWIT_RETURN_IF_ERROR(steps.note_run_state());
    GODWIT_RETURN_IF_ERROR(steps.note_freezing());
    GODWIT_RETURN_IF_ERROR(steps.prepare_save());
    GODWIT_RETURN_IF_ERROR(steps.start_guard());
    steps.at_step(step::kGuardStarted);
    GODWIT_RETURN_IF_ERROR(steps.catch_up());
    GODWIT_RETURN_IF_ERROR(steps.arm_guard());
    steps.at_step(step::kGuardArmed);

    GODWIT_RETURN_IF_ERROR(steps.stop_guest());
    steps.at_step(step::kFrozen);
    GODWIT_RETURN_IF_ERROR(steps.send_last_set());
    steps.at_step(step::kLastPagesSent);
    GODWIT_RETURN_IF_ERROR(steps.save_device_state());
    steps.at_step(step::kLoaded);
    return steps.verify();
}

CommitEnd commit_in_order(HandoverSteps& steps, std::string& why) {
    steps.at_step(step::kVerified);
    // COMMIT into a connection that is known to be broken would be a needless doubt.
    if (const absl::Status problem = steps.problem(); !problem.ok()) {
        why = std::string(problem.message());
        return CommitEnd::kNotSent;
    }
    if (!steps.decide_commit()) {
        why = "the freeze deadline passed and the guard gave the guest back";
        return CommitEnd::kNotSent;
    }
    steps.at_step(step::kWordDecided);
    const absl::Status sent = steps.send_commit();
    steps.at_step(step::kCommitSent);
    const absl::StatusOr<CommitAnswer> answer = steps.await_answer(sent.ok());
    if (!answer.ok()) {
        why = std::string((sent.ok() ? answer.status() : sent).message());
        return CommitEnd::kInDoubt;
    }
    if (!answer->refused) return CommitEnd::kResumed;
    why = "the destination refused: " + *answer->refused;
    return CommitEnd::kRefused;
}

}  // namespace godwit
