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
#include "engine/source/fate.h"
#include "godwit/v1/transfer.pb.h"

namespace godwit {

enum class DrainEnd {
    kDrained,
    kGuestGone,  // it ended at the destination, or is lost with that
    kRefused,    // the guest never ran there and never will
    kStopped,    // the agent ends: its successor goes on
};

class DrainSteps {
  public:
    virtual ~DrainSteps() = default;

    // How a step on a connection ended.
    enum class Step { kDone, kDrained, kGuestGone, kRefused, kStopped, kLost };

    // Until this agent of the destination has said RESUMED (kDone) or REFUSED. `in_doubt`: nobody
    // has said yet that the guest runs there; then an operator may end it as well.
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
    // In doubt: whether the guest's QEMU stands here, or may.
    virtual bool is_guest_here() = 0;
    // What an operator says, whom nobody answers: that the guest is at the source, in doubt, or
    // that it is lost with the destination.
    virtual std::optional<Fate> operators_word() = 0;
    // It does not count: the destination has answered.
    virtual void forget_word() = 0;
    // Why a try to reconnect was in vain.
    virtual void still_away(const absl::Status& why) = 0;
};

struct DrainBegin {
    bool connected = false;  // what COMMIT was sent on may still be of use
    bool has_left = false;   // an earlier agent has heard RESUMED
};
DrainEnd drain_in_order(DrainSteps& steps, const DrainBegin& begin);

}  // namespace godwit
