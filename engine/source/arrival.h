// Whether the destination has made of a VM what it was at the source, once its guest is there.
#pragma once

#include <stop_token>
#include <string>

#include "engine/source/transfer_client.h"

namespace godwit {

// Asks until the destination has seen to it, at most half a minute. Ok: it has, and the source may
// remove what it knows of the VM. Errors: FailedPrecondition (it could not, in its words),
// DeadlineExceeded, Cancelled when `stop` was asked for.
absl::Status await_arrival(TransferClient& peer, const std::string& migration_id,
                           const std::stop_token& stop);

}  // namespace godwit
