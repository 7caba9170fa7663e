// COMMIT was sent and no answer came: the source goes on asking, and never guesses.
#pragma once

#include <optional>
#include <stop_token>
#include <string>

#include "engine/source/transfer_client.h"

namespace godwit {

enum class Fate {
    kAtDestination,  // RESUMED: the source must never run it again
    kRefused,        // the destination never ran it and never will
};

struct FateAnswer {
    Fate fate;
    bool guest_gone = false;  // at the destination, and its QEMU has ended since COMMIT
    bool draining = false;    // at the destination, and pages are missing there
    std::string detail;       // the destination's words; may be empty
};

// Asks until the destination knows, or `stop` is asked for (then nothing is returned: still in
// doubt). "No record" is no answer: a destination that lost its state directory may run the guest.
std::optional<FateAnswer> ask_until_known(TransferClient& peer, const std::string& migration_id,
                                          const std::stop_token& stop);

}  // namespace godwit
