// What incoming migrations take of an agent, and whether it takes one more. Pure.
#pragma once

#include <cstddef>

#include "godwit/v1/transfer.pb.h"

namespace godwit {

class IncomingLoad {
  public:
    // One of them. What has ended counts for nothing, swept or not: a source begins its next
    // migration when it has heard RESUMED.
    void add(v1::IncomingState state, bool ended);
    // One whose QEMU is being started: it will wait.
    void add_prepared() { add(v1::INCOMING_STATE_WAITING, false); }
    [[nodiscard]] bool is_full() const { return waiting_ >= kMostWaiting || all_ >= kMost; }

    // Waiting for COMMIT at once, those that their source holds among them: each has a QEMU,
    // threads and buffers.
    static constexpr size_t kMostWaiting = 32;
    // The same, with those whose last pages follow.
    static constexpr size_t kMost = 128;

  private:
    size_t waiting_ = 0;
    size_t all_ = 0;
};

}  // namespace godwit
