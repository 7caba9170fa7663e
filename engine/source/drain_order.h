// The order of what the source does from COMMIT on while pages are missing at the destination.
//
// The steps are somebody else's: Drain's in an agent, a simulated host's in tests/sim. Which comes
// after which, and what is concluded from how each ends, is here alone.
//
//   answering ─► RESUMED ─► pushing ─► DRAINED
//       ▲           │          │
//       └───────────┴──────────┴─ connection lost: Reconnect until the destination answers; it says
//                                 what it misses, and that is pushed
#pragma once

#include "engine/base/status.h"
#include "godwit/v1/transfer.pb.h"

namespace godwit {

enum class DrainEnd {
    kDrained,
    kGuestGone,  // the destination's QEMU ended after COMMIT
    kRefused,    // the guest never ran there and never will
    kStopped,    // the agent ends: its successor goes on
};

class DrainSteps {
  public:
    virtual ~DrainSteps() = default;

    // How a step on a connection ended.
    enum class Step { kDone, kDrained, kGuestGone, kRefused, kStopped, kLost };

    // Until this agent of the destination has said RESUMED (kDone) or REFUSED. `in_doubt`: nobody
    // has said yet that the guest runs there.
    virtual Step await_resumed(bool in_doubt) = 0;
    // Called once, as soon as it is known that the guest runs there.
    virtual void now_resumed() = 0;
    // What is missing there. kDone: the destination has said that something still is.
    virtual Step push() = 0;
    // The connection is used no more. `lost`: another one is needed.
    virtual void hang_up(bool lost) = 0;

    // Before each try to reconnect. False: the agent ends.
    virtual bool wait_to_reconnect() = 0;
    // What the destination says when it is asked to let the source come again.
    virtual absl::StatusOr<v1::QueryResponse> ask_to_reconnect() = 0;
    // New streams, and all that is missing there; what was known of that before is forgotten.
    virtual absl::Status connect(bool resumed) = 0;
    // An operator has said that the guest is at the source.
    virtual bool is_given_up() = 0;
    // Why a try to reconnect was in vain.
    virtual void still_away(const absl::Status& why) = 0;
};

// `connected`: what COMMIT was sent on may still be of use.
DrainEnd drain_in_order(DrainSteps& steps, bool connected);

}  // namespace godwit
