// IncomingMigration: who owns the guest, from COMMIT on.
#include <fmt/format.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

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
    GODWIT_ASSIGN_OR_RETURN(const CommitHere end, commit_here(*this, run_guest));
    if (end == CommitHere::kRefused) return absl::OkStatus();
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
    dependencies_.at_step(step::kResumedSent);
    const v1::JournalPhase now = all_pages ? v1::JOURNAL_PHASE_RESUMED : v1::JOURNAL_PHASE_DRAINING;
    if (const absl::Status status = enter(now, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    if (!all_pages && gone) return break_session(absl::NotFoundError("the guest's QEMU has ended"));
    if (const absl::Status status = vm_->announce(); !status.ok())
        spdlog::warn("migration {}: announce: {}", id(), std::string(status.message()));
    if (all_pages) return release();
    // Not only once the last page is here: whoever saves the guest meanwhile is to get its memory.
    vm_->arrived("").IgnoreError();
}

// It may move on from now on. A host that loses its power afterwards would not know any more that
// it had come, and say that it is lost: so the disk knows first. The pause has long been over.
void IncomingMigration::release() {
    note_arrival();
    if (const absl::Status status =
            enter(v1::JOURNAL_PHASE_RESUMED, "", Journal::Durability::kDisk);
        !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    dependencies_.on_resumed(record_.vm());
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

bool IncomingMigration::qemu_has_ended() {
    return wait_readable(vm_->gone_fd(), -1, Clock::system().now()).ok();
}

absl::Status IncomingMigration::resume() {
    const absl::Status status = vm_->resume(kResumeLimit);
    if (!status.ok())
        spdlog::error("migration {}: resuming after COMMIT: {}", id(),
                      std::string(status.message()));
    if (absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status)) {
        const std::lock_guard lock(mutex_);
        detail_ = "the guest is to run here, and its hypervisor does not answer: " +
                  std::string(status.message());
    }
    return status;
}

// The guest is still the source's, which may let it run any moment: there must not be two at its
// disks, and what has run here is of no use any more.
void IncomingMigration::end_early_guest() {
    ::syscall(SYS_pidfd_send_signal, vm_->gone_fd(), SIGKILL, nullptr, 0U);
    spdlog::error("migration {}: {}", record_.migration_id(), kRanEarly);
    ran_early_ = true;
    if (!load_status_) load_status_ = "gone";
    if (broken_.ok()) broken_ = absl::AbortedError(kRanEarly);  // for a COMMIT that comes now
    wakeup_.notify();
}

bool IncomingMigration::has_run() {
    const std::lock_guard lock(mutex_);
    return ran_here_;
}

bool IncomingMigration::wait_to_ask_again() {
    std::unique_lock lock(mutex_);
    return !changed_.wait_for(lock, kAskAgain, [this] { return ending_; });
}

absl::Status IncomingMigration::note(v1::JournalPhase phase, const std::string& detail) {
    const absl::Status status = enter(phase, detail);
    const std::lock_guard one_at_a_time(journal_mutex_);
    if (!status.ok() && status != last_noted_)
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    last_noted_ = status;
    return status;
}

absl::Status IncomingMigration::kill() {
    vm_->set_listener({});
    const absl::Status killed = vm_->kill(kKillLimit);
    if (!killed.ok()) {
        spdlog::error("migration {}: QEMU pid {} could not be ended: {}", id(), vm_->pid(),
                      std::string(killed.message()));
        return killed;
    }
    dependencies_.hypervisor->forget(*vm_).IgnoreError();
    return killed;
}

void IncomingMigration::now_refused(const std::string& why) {
    spdlog::warn("migration {}: ended here: {}", id(), why);
    {
        const std::lock_guard lock(mutex_);
        state_ = v1::INCOMING_STATE_REFUSED;
        phase_ = DestinationPhase::kRefused;
        detail_ = why;
        changed_.notify_all();
    }
    dependencies_.on_refused(record_.vm());
}

absl::Status IncomingMigration::tell_refused(const std::string& why) {
    if (const std::shared_ptr<Session> now = session())
        return now->writer->send(FrameKind::kRefused, TextBody{.text = why}.encode());
    return absl::OkStatus();
}

// The guest will never run here.
void IncomingMigration::refuse(const absl::Status& reason) {
    refuse_here(*this, std::string(reason.message()));
}

}  // namespace godwit
