// The order of what the source does from the last live round to the answer to COMMIT.
//
// The steps are somebody else's: Handover's in an agent, a simulated host's in tests/sim. Which
// comes after which, and what is concluded from how each ends, is here alone.
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "engine/base/status.h"

namespace godwit {

// How COMMIT ended.
enum class CommitEnd {
    kResumed,  // the guest runs at the destination
    kRefused,  // the destination says that it never ran and never will
    kNotSent,  // the guard, a cancel or bad news came first
    kInDoubt,  // sent, or partly; no answer
};

// What a destination says to COMMIT.
struct CommitAnswer {
    std::optional<std::string> refused;  // none: RESUMED
};

class HandoverSteps {
  public:
    virtual ~HandoverSteps() = default;

    // While the guest runs:
    virtual absl::Status note_run_state() = 0;
    // To the disk: COMMIT may have been sent.
    virtual absl::Status note_freezing() = 0;
    virtual absl::Status prepare_save() = 0;
    virtual absl::Status start_guard() = 0;
    virtual absl::Status catch_up() = 0;
    virtual absl::Status arm_guard() = 0;
    // In the pause:
    virtual absl::Status stop_guest() = 0;
    virtual absl::Status send_last_set() = 0;
    // Until the source's QEMU has said `completed` and the destination LOADED.
    virtual absl::Status save_device_state() = 0;
    virtual absl::Status verify() = 0;
    // What is known to be wrong: bad news of the guest, the destination, the connection.
    virtual absl::Status problem() = 0;
    // The word goes from OPEN to COMMIT. False: the guard was first.
    virtual bool decide_commit() = 0;
    virtual absl::Status send_commit() = 0;
    // At once where COMMIT could not be sent whole.
    virtual absl::StatusOr<CommitAnswer> await_answer(bool sent) = 0;

    virtual void at_step(std::string_view step) = 0;
};

// Everything before COMMIT. After an error the guest is frozen or not, and the word is still open
// or says ABORT: the caller rolls back.
absl::Status freeze_in_order(HandoverSteps& steps);
// `why` is set unless it ends in kResumed.
CommitEnd commit_in_order(HandoverSteps& steps, std::string& why);

}  // namespace godwit
