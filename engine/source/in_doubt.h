// COMMIT was sent and no answer came: the source goes on asking, and never guesses.
#pragma once

#include <optional>
#include <stop_token>

#include "engine/source/transfer_client.h"

namespace godwit {

enum class Fate {
    kAtDestination,  // RESUMED: the source must never run it again
    kRefused,        // the destination never ran it and never will
};

// Asks until the destination knows, or `stop` is asked for (then nothing is returned: still in
// doubt). "No record" is no answer: a destination that lost its state directory may run the guest.
std::optional<Fate> ask_until_known(TransferClient& peer, const std::string& migration_id,
                                    const std::stop_token& stop);

}  // namespace godwit
