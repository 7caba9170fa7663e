// Beginning a log in memory that the agent brings.
#pragma once

#include "dirty-tracking/resident/protocol.h"

namespace godwit::resident {

// Null when KVM's log can be begun, else why it can't. Under the lock.
const char* log_problem();

// Checks every number against what this process has mapped, and begins the log. `memory` stays the
// caller's. kOk, kBadMessage or kProblem; the text is in `text` unless kOk. Under the lock, which
// it lets go while it arms.
Code start_log(const StartRequest& request, int memory, char (&text)[kTextBytes]);

}  // namespace godwit::resident
