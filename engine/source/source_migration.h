// SourceMigration: one outgoing migration, from the first check to the report.
//
//   PREPARE ─► ROUNDS ─► FREEZE ─► HANDOVER ─► [DRAIN] ─► DONE
//      │          │         │          ├─► refused: rolled back, the guest at the source
//      └──────────┴─────────┴─► undone └─► in doubt: asks the destination until it knows
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <stop_token>
#include <string>

#include "dirty-tracking/resident/vcpu_throttle.h"
#include "dirty-tracking/tracker/tracker.h"
#include "engine/guest/hypervisor.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/step_hook.h"
#include "engine/report/event_log.h"
#include "engine/source/context.h"
#include "engine/source/handover.h"
#include "engine/source/in_doubt.h"
#include "engine/source/settings.h"

namespace godwit {

// Makes the tracker of that name; may add to the report what it cost.
using TrackerFactory = std::function<absl::StatusOr<std::unique_ptr<DirtyTracker>>(
    Vm&, const std::string& name, v1::MigrationReport& report)>;

// Makes what holds a VM's vCPUs back. Errors: why nobody can.
using ThrottleFactory = std::function<absl::StatusOr<std::unique_ptr<VcpuThrottle>>(Vm&)>;

struct SourceDependencies {
    std::shared_ptr<Vm> vm;
    std::string state_dir;
    std::string guard_program;
    std::string own_address;  // for logs and reports
    std::string hypervisor_version;
    Duration fixed_cost = std::chrono::milliseconds(15);  // DESIGN: 9–12 ms seen
    std::optional<v1::Prediction> prediction;             // by a plan, for the report
    TrackerFactory make_tracker;
    ThrottleFactory make_throttle;
    RingKind ring = RingKind::kIoUring;
    ThreadPlacement placement;
    StepHook at_step = no_hook;
};

// What an operator hears who says that a guest is where its last pages are not.
inline constexpr const char* kLastPagesAreHere =
    "the guest's last pages are still at the source, which sends them as soon as the destination "
    "answers: without that it can't run there";

inline constexpr const char* kCannotComeBack =
    "the guest's QEMU has ended at the source: what is here are its last pages, which a "
    "destination "
    "that comes back needs. If that never does, the guest is lost: --guest-at none";

inline constexpr const char* kNothingInDoubt =
    "nothing is in doubt: only a migration whose COMMIT is not answered can be resolved";

inline constexpr const char* kHasLeft =
    "nothing is in doubt: the guest has left for the destination, which is asked how it goes on; "
    "if it is lost with that, say --guest-at none";

// And what of one that is to be lost with its destination.
inline constexpr const char* kIsNotAwaited =
    "only a guest that is in doubt, or that has left and whose last pages its destination does not "
    "come for, can be said to be nowhere";
inline constexpr const char* kRunsHere =
    "the guest runs at the source, where it should stand still: somebody let it run; stop it there "
    "first, if it is elsewhere";

// What a cancel hears after COMMIT.
inline constexpr const char* kTooLate = "COMMIT was sent: the guest belongs to the destination";
// And what after REFUSED, or when all is over.
inline constexpr const char* kGivenBackAlready =
    "it is ending already: the guest is being given back to the source, or has been";

// run() is called once, on the migration's own thread; cancel() and log() from any.
class SourceMigration {
  public:
    SourceMigration(MigrationSettings settings, SourceDependencies dependencies);

    // Returns how it ended. The guest is where the report says. When `stop` is asked for it is
    // cancelled if it can be, and a doubt is left to the agent's successor.
    v1::MigrationReport run(const std::stop_token& stop);

    // Ok: the migration will end with the guest at the source. Errors: FailedPrecondition, with
    // kTooLate (COMMIT was sent) or kGivenBackAlready.
    absl::Status cancel();

    // Ok: the live rounds end now, and the guest resumes before its last pages are there. Errors:
    // FailedPrecondition when they have ended, there are none, or the destination can't do that
    // or has not said yet that it can.
    absl::Status switch_to_postcopy();
    // Lets a migration with a hold_limit switch over. Any thread. Errors: FailedPrecondition.
    absl::Status proceed();
    // Ok: an interrupted drain is tried again at once. Errors: FailedPrecondition when none is.
    absl::Status resume();

    // An operator says where the guest is. Errors: FailedPrecondition when it is not in doubt (or,
    // for kNowhere, in an interrupted drain), can be at the destination only once that has answered
    // (its last pages are here), or runs here and is said to be elsewhere.
    absl::Status resolve(Fate fate);
    // The destination asks whether that was said, and the guest runs here or will. False where its
    // QEMU had ended before it could.
    bool given_back();

    // Limits all streams together from now on; 0: no limit. Of no effect once it has ended.
    void limit(Bytes bytes_per_second);

    // The guest runs at the destination, and its last pages follow.
    [[nodiscard]] bool resumed_there() const { return resumed_there_; }
    // Ready to switch over, it waits for proceed().
    [[nodiscard]] bool is_held() const { return is_held_; }
    // COMMIT was sent, and the destination has not answered yet.
    [[nodiscard]] bool in_doubt() const { return in_doubt_; }
    [[nodiscard]] EventLog& log() { return log_; }
    [[nodiscard]] const MigrationSettings& settings() const { return settings_; }
    [[nodiscard]] const std::string& vm_name() const { return vm_name_; }

  private:
    // Error: FailedPrecondition, where memory was plugged into the running VM.
    static absl::Status check_memory(Vm& vm);
    absl::Status prepare(SourceContext& context);
    absl::StatusOr<v1::PrepareRequest> prepare_request(const SourceContext& context);
    void migrate(SourceContext& context, const std::stop_token& stop);
    // `handover`: none before it began to be made ready.
    void undo(SourceContext& context, const absl::Status& cause, Handover* handover,
              const std::stop_token& stop);
    absl::Status give_back(SourceContext& context, const std::stop_token& stop);
    void finish_at_destination(SourceContext& context);
    void kill_guest(SourceContext& context);
    void note_resolution(SourceContext& context, Fate fate);
    SourceCopy copy_in_doubt();
    // Post-copy, once COMMIT was sent.
    void drain(SourceContext& context, Handover& handover, const std::stop_token& stop);
    void note_resumed(SourceContext& context, Handover& handover, MonotonicTime at);
    void finish_drain(SourceContext& context, Handover& handover, Drain::Outcome outcome,
                      const std::stop_token& stop);
    bool verify_drained(SourceContext& context, Handover& handover, const std::stop_token& stop);
    // The guest ended at the destination, or is lost with that: nothing here is run.
    void finish_lost(SourceContext& context, const std::string& why);

    const MigrationSettings settings_;
    SourceDependencies dependencies_;  // the VM is let go when run() ends: it holds the RAM file
    const std::string vm_name_;
    EventLog log_;
    SourceSignals signals_;
    RateLimiter limiter_;
    std::mutex word_mutex_;
    // Guarded by word_mutex_, but for run(), from where it has opened the word to its end.
    std::optional<DecisionWord> word_;
    bool cancelled_early_ = false;  // guarded by word_mutex_
    bool is_over_ = false;          // the same
    bool is_undone_ = false;        // the same: the guest is the source's, whatever the word says
    std::atomic<bool> in_doubt_{false};
    std::atomic<bool> resumed_there_{false};
    std::atomic<bool> switch_requested_{false};
    std::atomic<bool> is_held_{false};
    OperatorsWord operators_word_;
    const std::weak_ptr<Vm> guest_;        // of dependencies_, for other threads
    std::atomic<bool> given_back_{false};  // by an operator, with a guest here
    std::mutex drain_mutex_;
    std::shared_ptr<Drain> drain_;  // guarded by drain_mutex_
    bool live_over_ = false;        // the same: too late to switch
    // The same: why it can't be done, empty when it can; unset until the destination has said so.
    std::optional<std::string> no_switch_;
    bool was_running_ = true;
    bool prepared_ = false;    // the destination holds something of ours
    bool untouched_ = true;    // nothing was touched anywhere yet
    bool unfinished_ = false;  // the agent ends: its successor goes on, by the journal
};

}  // namespace godwit
