// The order of what the destination does from COMMIT on, and when it says that it never will.
//
// The steps are somebody else's: IncomingMigration's in an agent, a simulated host's in tests/sim.
// Which comes after which, and what is concluded from how each ends, is here alone.
#pragma once

#include <string>
#include <string_view>

#include "engine/base/status.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

class CommitSteps {
  public:
    virtual ~CommitSteps() = default;

    // To the journal. After an error it says what it said before.
    virtual absl::Status note(v1::JournalPhase phase, const std::string& detail) = 0;
    // Cancelled: the agent ends first.
    virtual absl::Status await_mapping_check() = 0;
    virtual bool qemu_has_ended() = 0;
    // Vm::resume().
    virtual absl::Status resume() = 0;
    // Whether QEMU has said RESUME.
    virtual bool has_run() = 0;
    // Between two tries. False: the agent ends.
    virtual bool wait_to_ask_again() = 0;
    // Ok: QEMU is dead and reaped.
    virtual absl::Status kill() = 0;
    // It has ended here, and its guest never ran: whoever asks hears REFUSED from now on.
    virtual void now_refused(const std::string& why) = 0;
    // REFUSED, on the streams if there are any; else the source will ask.
    virtual absl::Status tell_refused(const std::string& why) = 0;

    virtual void at_step(std::string_view step) = 0;
};

enum class CommitHere {
    kGuestIsHere,  // running or crashed
    kRefused,      // it never ran here and never will, and the source was told, or will ask
};

// COMMIT came, and the state says so. Errors: Cancelled (the agent ends before QEMU has said, or
// before its refusal could be noted; its successor finds CONT, and goes on); that of
// tell_refused(); why it is refused, where QEMU could not be ended and so nobody was told.
absl::StatusOr<CommitHere> commit_here(CommitSteps& steps, bool run_guest);

// The guest will never run here: QEMU is dead and reaped before anybody hears it. False: it may
// live, and nobody is told.
bool refuse_here(CommitSteps& steps, const std::string& why);

}  // namespace godwit
