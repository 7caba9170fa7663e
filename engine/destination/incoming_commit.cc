// IncomingMigration: who owns the guest, from COMMIT on.
#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/destination/incoming_migration.h"

namespace godwit {
namespace {

constexpr Duration kResumeLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);
constexpr Duration kArriveAgain = std::chrono::seconds(1);
// An exit takes effect in /proc a little before its descriptor says so.
constexpr Duration kExitLag = std::chrono::milliseconds(500);
constexpr const char* kEndedTooEarly = "its QEMU ended before it was asked to run the guest";
// Between two questions to a QEMU that can't be reached after COMMIT.
constexpr Duration kAskAgain = std::chrono::milliseconds(100);

}  // namespace

absl::Status IncomingMigration::commit(bool run_guest) {
    dependencies_.at_step(step::kCommitCame);
    {
        const std::lock_guard lock(mutex_);
        absl::Status not_now = broken_;  // an abort, or the end of the streams, came first
        if (not_now.ok() && load_status_ != "completed")
            not_now = absl::FailedPreconditionError("COMMIT before the device state was loaded");
        if (!not_now.ok()) {
            // Refused by whoever waits for the drain of a guest that never ran here.
            if (phase_ == DestinationPhase::kCommittedServing) phase_ = DestinationPhase::kServing;
            changed_.notify_all();
            return not_now;
        }
        state_ = v1::INCOMING_STATE_COMMITTED;
        record_.set_was_running(run_guest);
        record_.set_arrival_owed(true);
        changed_.notify_all();
    }
    absl::Status resumed = enter(v1::JOURNAL_PHASE_CONT, "");
    dependencies_.at_step(step::kContNoted);
    if (resumed.ok()) resumed = await_mapping_check();
    if (resumed.ok()) resumed = resume_guest(run_guest);
    if (absl::IsCancelled(resumed)) return resumed;  // the successor finds CONT, and goes on
    if (!resumed.ok()) return refuse_commit(resumed);
    dependencies_.at_step(step::kContDone);
    note_resumed();
    return absl::OkStatus();
}

// A guest whose memory QEMU maps where nobody serves its faults must not run. Cancelled: the agent
// ends first.
absl::Status IncomingMigration::await_mapping_check() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return mappings_ || ending_; });
    if (!mappings_) return absl::CancelledError("the agent ends");
    const absl::Status mapped = *mappings_;
    lock.unlock();
    if (mapped.ok()) return mapped;
    // A process on its way out has no mappings to be read.
    if (wait_readable(vm_->gone_fd(), -1, Clock::system().now() + kExitLag).ok())
        return absl::UnavailableError(kEndedTooEarly);
    return annotate(mapped, "Cannot see where QEMU maps the guest's memory");
}

// The guest is here; whether all of its pages are is another matter.
void IncomingMigration::note_resumed() {
    bool all_pages = true;
    bool gone = false;
    {
        const std::lock_guard lock(mutex_);
        all_pages = phase_ != DestinationPhase::kCommittedServing;
        state_ = v1::INCOMING_STATE_RESUMED;
        detail_.clear();
        phase_ = all_pages ? DestinationPhase::kResumed : DestinationPhase::kDraining;
        gone = vm_gone_;
        changed_.notify_all();
    }
    if (all_pages) {
        // Whoever hears of RESUMED may migrate the VM on at once, and then waits for what follows.
        vm_->set_listener({});
        dependencies_.on_settling(record_.vm());
    }
    tell_resumed();
    if (all_pages) {
        note_arrival();
        dependencies_.on_resumed(record_.vm());
    }
    dependencies_.at_step(step::kResumedSent);
    const v1::JournalPhase now = all_pages ? v1::JOURNAL_PHASE_RESUMED : v1::JOURNAL_PHASE_DRAINING;
    if (const absl::Status status = enter(now, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    if (!all_pages && gone) return break_session(absl::NotFoundError("the guest's QEMU has ended"));
    if (const absl::Status status = vm_->announce(); !status.ok())
        spdlog::warn("migration {}: announce: {}", id(), std::string(status.message()));
}

// A hypervisor that is away is waited for, as the source does before it removes its own definition.
void IncomingMigration::note_arrival() {
    absl::Status said;
    absl::Status status;
    while (true) {
        status = vm_->arrived(record_.vm_definition());
        if (!status.ok() && said != status)
            spdlog::warn("migration {}: VM {} is here, but not as it was there: {}", id(),
                         record_.vm(), std::string(status.message()));
        said = status;
        std::unique_lock lock(mutex_);
        if (!absl::IsUnavailable(status) && !absl::IsDeadlineExceeded(status)) break;
        if (changed_.wait_for(lock, kArriveAgain, [this] { return ending_; })) return;
    }
    const std::lock_guard lock(mutex_);
    record_.set_arrival_owed(false);
    record_.set_arrival_problem(std::string(status.message()));
}

// Ok: the guest is this side's, running or crashed. Cancelled: the agent ends before QEMU has said.
// Another error: it has never run here, for QEMU was not asked, answered `cont` with an error, or
// was being killed when it was asked.
absl::Status IncomingMigration::resume_guest(bool run) {
    if (wait_readable(vm_->gone_fd(), -1, Clock::system().now()).ok())
        return absl::UnavailableError(kEndedTooEarly);
    bool events_lost = false;
    while (run) {
        const absl::Status status = vm_->resume(kResumeLimit);
        if (status.ok()) break;
        spdlog::error("migration {}: resuming after COMMIT: {}", id(),
                      std::string(status.message()));
        if (absl::IsNotFound(status)) break;  // QEMU ended: `cont` may have been carried out
        if (absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status)) {
            // No answer is no refusal either. Asked again until QEMU says.
            events_lost |= absl::IsUnavailable(status);
            std::unique_lock lock(mutex_);
            detail_ = "the guest is to run here, and its hypervisor does not answer: " +
                      std::string(status.message());
            if (changed_.wait_for(lock, kAskAgain, [this] { return ending_; }))
                return absl::CancelledError("the agent ends");
            continue;
        }
        // RESUME comes before the answer to the `cont` that caused it, on the same connection. A
        // guest that has run, and stopped by itself since, is here.
        const std::lock_guard lock(mutex_);
        if (!ran_here_ && !events_lost) return status;
        break;
    }
    return absl::OkStatus();
}

// COMMIT came, and the guest has never run here: QEMU is dead and reaped before the source hears
// it.
absl::Status IncomingMigration::refuse_commit(const absl::Status& reason) {
    // An agent that comes back after our death must not resume what QEMU refused to run.
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_LIVE, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    dependencies_.at_step(step::kContRefused);
    refuse(reason);
    if (state().state() != v1::INCOMING_STATE_REFUSED) return reason;  // it may live: no answer
    if (const std::shared_ptr<Session> now = session())
        return now->writer->send(FrameKind::kRefused,
                                 TextBody{.text = std::string(reason.message())}.encode());
    return absl::OkStatus();  // the source will ask
}

// The guest will never run here.
void IncomingMigration::refuse(const absl::Status& reason) {
    const std::string text(reason.message());
    vm_->set_listener({});
    spdlog::warn("migration {}: ended here: {}", id(), text);
    if (const absl::Status killed = vm_->kill(kKillLimit); !killed.ok()) {
        // Still COMMITTED or WAITING for whoever asks: never REFUSED while its QEMU may live.
        spdlog::error("migration {}: QEMU pid {} could not be ended: {}", id(), vm_->pid(),
                      std::string(killed.message()));
        return;
    }
    dependencies_.hypervisor->forget(*vm_).IgnoreError();
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_REFUSED, text); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    {
        const std::lock_guard lock(mutex_);
        state_ = v1::INCOMING_STATE_REFUSED;
        phase_ = DestinationPhase::kRefused;
        detail_ = text;
        changed_.notify_all();
    }
    dependencies_.on_refused(record_.vm());
}

}  // namespace godwit
