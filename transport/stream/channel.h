// Channel: a reliable, ordered byte stream between two agents; the seam under frames.
#pragma once

#include <cstddef>
#include <span>

#include "engine/base/status.h"

namespace godwit {

// One thread may send while another receives. shutdown() may be called from any thread and makes
// every blocked and later call fail with Cancelled or Unavailable; it never blocks.
class Channel {
  public:
    virtual ~Channel() = default;

    // Sends all bytes. After an error nothing is known about how much the peer got.
    // Errors: Unavailable (connection lost: the cause is in the message), Cancelled.
    virtual absl::Status send(std::span<const std::byte> bytes) = 0;

    // Fills all of `bytes`. Errors: OutOfRange when the peer closed in an orderly way before the
    // first byte, Unavailable, Cancelled.
    virtual absl::Status receive(std::span<std::byte> bytes) = 0;

    // Begins to send `bytes`, which must stay unchanged until finish_send() returned. A send or
    // start_send that follows finishes this one first. A channel that can't do this sends at once.
    virtual absl::Status start_send(std::span<const std::byte> bytes) { return send(bytes); }
    // Waits for what start_send() began; ok when there is nothing. Errors: as send().
    virtual absl::Status finish_send() { return absl::OkStatus(); }

    virtual void shutdown() = 0;
};

}  // namespace godwit
