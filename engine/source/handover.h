// Freeze and handover at the source: from the last live round to the answer to COMMIT.
//
//   arm guard ─► migrate ─► STOP ─► pre-switchover ─► last collect ∪ unsettled ─► last pages
//        ─► migrate-continue ─► completed + LOADED ─► [verify] ─► COMMIT ─► RESUMED | REFUSED
#pragma once

#include "engine/source/context.h"
#include "engine/source/device_state.h"
#include "engine/source/live_rounds.h"

namespace godwit {

// How COMMIT ended.
enum class CommitEnd {
    kResumed,  // the guest runs at the destination
    kRefused,  // the destination says that it never ran and never will
    kNotSent,  // the guard, a cancel or bad news came first
    kInDoubt,  // sent, or partly; no answer
};

class Handover {
  public:
    explicit Handover(SourceContext& context) : context_(context) {}

    // Everything before COMMIT; a guest that was paused by now stays paused. After an error the
    // guest is frozen or not, and the word is still open or says ABORT: the caller rolls back.
    absl::Status freeze(LiveResult live);
    // Whether the guest ran when it was frozen.
    [[nodiscard]] bool was_running() const { return was_running_; }
    // Whether freeze() got as far as asking QEMU to stop.
    [[nodiscard]] bool began() const { return began_; }

    // Decides, sends COMMIT, waits for the answer; fills the report's downtime. `why` is set unless
    // it ends in kResumed.
    CommitEnd commit(std::string& why);

    // The parts of the pause, which ended when the source heard of RESUMED.
    void fill_downtime(MonotonicTime resumed_at);

    // The guard's work is done.
    void dismiss_guard() { guard_.reset(); }

  private:
    absl::Status start_guard(const LiveResult& live);
    absl::Status note_run_state();
    absl::Status verify();
    absl::Status stop_guest();
    absl::Status send_last_pages(LiveResult live);
    absl::Status save_device_state();

    SourceContext& context_;
    bool was_running_ = true;
    bool began_ = false;
    std::optional<GuardProcess> guard_;
    std::unique_ptr<DeviceStatePump> pump_;
    MonotonicTime deadline_;  // of the whole freeze
    MonotonicTime stopped_at_;
    MonotonicTime quiet_at_;
    MonotonicTime collected_at_;
    MonotonicTime pages_sent_at_;
    MonotonicTime loaded_at_;
    MonotonicTime verified_at_;
};

}  // namespace godwit
