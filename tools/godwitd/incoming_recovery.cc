// IncomingRegistry: what an earlier agent had begun is finished, refused, or asked about.
#include <fmt/format.h>

#include <condition_variable>
#include <utility>

#include "engine/base/boot_id.h"
#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/destination/recovery_plan.h"
#include "engine/source/transfer_client.h"
#include "tools/godwitd/incoming_registry.h"
#include "transport/control/peer.h"

namespace godwit {
namespace {

constexpr Duration kResumeLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);
constexpr Duration kResumeAgain = std::chrono::seconds(1);
// The guest stands still meanwhile. Agents that were restarted together are there within a second.
constexpr Duration kAskSourceLimit = std::chrono::seconds(2);

// Before something is tried again. False when `stop` was asked for.
bool pause(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any wait;
    std::unique_lock lock(mutex);
    wait.wait_for(lock, stop, kResumeAgain, [] { return false; });
    return !stop.stop_requested();
}

v1::QueryResponse answer(v1::IncomingState state, const std::string& detail) {
    v1::QueryResponse response;
    response.set_state(state);
    response.set_detail(detail);
    return response;
}

// What a record that is final says: REFUSED or RESUMED.
v1::QueryResponse answer_of(const v1::JournalRecord& record) {
    v1::QueryResponse response =
        answer(record.phase() == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                                           : v1::INCOMING_STATE_RESUMED,
               record.detail());
    response.set_guest_gone(record.guest_gone());
    response.set_arrival_owed(record.arrival_owed());
    response.set_arrival_problem(record.arrival_problem());
    *response.mutable_postcopy() = record.report().postcopy();
    return response;
}

}  // namespace

void IncomingRegistry::recover() {
    for (v1::JournalRecord& record : Journal::load_all(options_.state_dir))
        if (record.role() == v1::ROLE_DESTINATION) recover_one(std::move(record));
}

void IncomingRegistry::recover_one(v1::JournalRecord record) {
    const std::string id = record.migration_id();
    std::shared_ptr<Vm> vm;
    bool looked = false;  // once: all that is decided is decided about what was found then
    bool given_back = false;
    const FoundAtDestination found{
        .record = record,
        .boot_id = boot_id(),
        .has_vm =
            [&] {
                if (!std::exchange(looked, true)) vm = vm_of(record);
                return vm != nullptr;
            },
        .left_alone = [&] { return vms_.is_left_alone(record.vm()); },
        .given_back = [&] { return given_back = was_given_back(record, *vm); }};
    switch (plan_destination_recovery(found)) {
        case DestinationRecovery::kAnswer:
            break;
        case DestinationRecovery::kNoAnswer:
            // The record stays: a later agent may know more.
            return spdlog::error(
                "migration {}: what became of VM {} here can't be seen; a source that is in doubt "
                "stays so",
                id, record.vm());
        case DestinationRecovery::kWasLost:
            return note_lost(record);
        case DestinationRecovery::kEndStale:
            return end_stale(std::move(record), vm.get(),
                             given_back ? "an operator had given the guest back to the source"
                                        : "the destination's agent ended before COMMIT");
        case DestinationRecovery::kGuestGone:
            record.set_guest_gone(true);
            return settle(std::move(record), v1::JOURNAL_PHASE_RESUMED,
                          "its QEMU ended after COMMIT");
        case DestinationRecovery::kArrived:
            if (record.phase() == v1::JOURNAL_PHASE_CONT)
                settle(record, v1::JOURNAL_PHASE_RESUMED, "paused, as it was at the source");
            return note_arrival(record, *vm);
        case DestinationRecovery::kResume:
            return recover_committed(std::move(record), vm);
        case DestinationRecovery::kDrain:
            return recover_drain(std::move(record), vm);
    }
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer_of(record));
}

// Enough for a source that has nothing left of it, or has heard that it ran here. The record stays
// as it is: it says all that this answer is made of.
void IncomingRegistry::note_lost(const v1::JournalRecord& record) {
    const std::string& id = record.migration_id();
    v1::QueryResponse lost =
        answer(v1::INCOMING_STATE_UNKNOWN,
               fmt::format("this host was restarted in the middle of it: VM {} is not here any "
                           "more, and may have run here before",
                           record.vm()));
    lost.set_guest_gone(true);
    spdlog::error("migration {}: {}; a source that is in doubt and has its copy stays so", id,
                  lost.detail());
    const std::lock_guard lock(mutex_);
    keep_answer(id, lost);
}

void IncomingRegistry::settle(v1::JournalRecord record, v1::JournalPhase phase,
                              const std::string& detail) {
    const std::string& id = record.migration_id();
    record.set_phase(phase);
    record.set_detail(detail);
    absl::Status written = absl::OkStatus();
    if (const auto journal = Journal::open(options_.state_dir, id); journal.ok())
        written = journal->write(record, Journal::Durability::kDisk);
    else
        written = journal.status();
    if (!written.ok()) spdlog::error("migration {}: {}", id, std::string(written.message()));
    spdlog::warn("migration {}: {}", id, detail);
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer_of(record));
}

// The QEMU that the record is about, and no other of that name.
std::shared_ptr<Vm> IncomingRegistry::vm_of(const v1::JournalRecord& record) {
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.find(record.vm());
    if (!vm.ok()) return nullptr;
    if (!record.vm_incarnation().empty())
        return (*vm)->incarnation() == record.vm_incarnation() ? *vm : nullptr;
    // The agent ended while QEMU started: it is ours only if it has never run.
    const absl::StatusOr<RunState> state = (*vm)->run_state();
    return state.ok() && *state == RunState::kInMigrate ? *vm : nullptr;
}

// COMMIT came, and an operator may have ended the source's doubt while nobody answered here. A
// source that can't be asked says nothing: then the guest is ours, as ever.
bool IncomingRegistry::was_given_back(const v1::JournalRecord& record, Vm& vm) {
    const absl::StatusOr<HostPort> source = parse_host_port(record.peer());
    if (!source.ok()) return false;
    const absl::StatusOr<bool> given_back =
        TransferClient(*source).given_back(record.migration_id(), kAskSourceLimit);
    if (!given_back.ok())
        spdlog::warn(
            "migration {}: cannot ask the source whether it runs the guest by now, so it runs here "
            "(where an operator has said `godwit resolve --guest-at source`, end VM {} here): {}",
            record.migration_id(), record.vm(), std::string(given_back.status().message()));
    if (!given_back.ok() || !*given_back) return false;
    const absl::StatusOr<RunState> state = vm.run_state();
    if (!state.ok() || *state != RunState::kRunning) return true;
    // Its disks have moved on here, too. Whose writes are worth more, nobody knows but the
    // operator.
    spdlog::critical(
        "migration {}: VM {} RUNS HERE AND AT THE SOURCE {}, where an operator said that it never "
        "would here: end one of the two at once (godwit vm stop {} --force)",
        record.migration_id(), record.vm(), record.peer(), record.vm());
    return false;
}

// It has not run here, and never will.
void IncomingRegistry::end_stale(v1::JournalRecord record, Vm* vm, const std::string& why) {
    if (vm != nullptr) {
        if (const absl::Status killed = vm->kill(kKillLimit); !killed.ok())
            return spdlog::error("migration {}: {}", record.migration_id(),
                                 std::string(killed.message()));
        vms_.remove(record.vm(), "");
    }
    settle(std::move(record), v1::JOURNAL_PHASE_REFUSED, why);
}

// COMMIT came: the guest is ours, and `cont` may not have been sent yet.
void IncomingRegistry::recover_committed(v1::JournalRecord record, const std::shared_ptr<Vm>& vm) {
    const std::string id = record.migration_id();
    if (!vms_.hold(record.vm(), id).ok()) return;  // nobody else is here yet
    {
        const std::lock_guard lock(mutex_);
        keep_answer(id, answer(v1::INCOMING_STATE_COMMITTED, "being resumed by a restarted agent"));
    }
    resumers_.emplace_back([this, record = std::move(record), vm](const std::stop_token& stop) {
        set_thread_name("resume");
        resume_committed(record, *vm, stop);
    });
}

// COMMIT came, and pages are missing: the guest waits where it needs one.
void IncomingRegistry::recover_drain(v1::JournalRecord record, const std::shared_ptr<Vm>& vm) {
    const std::string id = record.migration_id();
    if (!vms_.hold(record.vm(), id).ok()) return;  // nobody else is here yet
    const absl::Status taken_up = take_up_drain(record, vm);
    if (taken_up.ok()) return;
    spdlog::error("migration {}: the drain can't go on here yet: {}", id,
                  std::string(taken_up.message()));
    {
        // Not as a drain: there is no port to come to. The source asks again.
        const std::lock_guard lock(mutex_);
        recovering_.insert(id);
        keep_answer(id, answer(v1::INCOMING_STATE_COMMITTED,
                               "a restarted agent can't go on with the drain yet"));
    }
    resumers_.emplace_back([this, record = std::move(record), vm](const std::stop_token& stop) {
        set_thread_name("resume");
        take_up_drain_again(record, vm, stop);
    });
}

absl::Status IncomingRegistry::take_up_drain(const v1::JournalRecord& record,
                                             const std::shared_ptr<Vm>& vm) {
    const std::string& id = record.migration_id();
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<IncomingMigration> incoming,
                            IncomingMigration::recover(record, vm, dependencies_of(id)));
    spdlog::info("migration {}: the drain goes on when the source comes back", id);
    const std::lock_guard lock(mutex_);
    incoming_[id] = std::move(incoming);
    recovering_.erase(id);
    return absl::OkStatus();
}

// What was in the way may pass: a QEMU that is slow to answer, memory, descriptors.
void IncomingRegistry::take_up_drain_again(v1::JournalRecord record, const std::shared_ptr<Vm>& vm,
                                           const std::stop_token& stop) {
    const std::string id = record.migration_id();
    std::string last_said;
    while (pause(stop)) {
        const absl::Status taken_up = take_up_drain(record, vm);
        if (taken_up.ok()) return;
        if (absl::IsNotFound(vm->run_state().status())) break;
        if (taken_up.message() != last_said)
            spdlog::error("migration {}: the drain can't go on here yet: {}", id,
                          std::string(taken_up.message()));
        last_said = std::string(taken_up.message());
    }
    if (stop.stop_requested()) return;  // the next agent goes on
    record.set_guest_gone(true);
    settle(record, v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
    {
        const std::lock_guard lock(mutex_);
        recovering_.erase(id);
    }
    vms_.release(record.vm(), id);
}

// The guest is here, and its earlier agent may have ended before it saw to that.
void IncomingRegistry::note_arrival(v1::JournalRecord record, Vm& vm) {
    const std::string& id = record.migration_id();
    const absl::Status status = vm.arrived(record.vm_definition());
    if (!status.ok())
        spdlog::warn("migration {}: VM {} is here, but not as it was there: {}", id, record.vm(),
                     std::string(status.message()));
    record.set_phase(v1::JOURNAL_PHASE_RESUMED);
    record.set_arrival_owed(false);
    record.set_arrival_problem(std::string(status.message()));
    const absl::StatusOr<Journal> journal = Journal::open(options_.state_dir, id);
    absl::Status written = journal.status();
    // It may move on then.
    if (journal.ok()) written = journal->write(record, Journal::Durability::kDisk);
    if (!written.ok()) spdlog::error("migration {}: {}", id, std::string(written.message()));
    const std::lock_guard lock(mutex_);
    keep_answer(id, answer_of(record));
}

// Until it runs: a source that heard RESUMED has let go of its own copy.
void IncomingRegistry::resume_committed(v1::JournalRecord record, Vm& vm,
                                        const std::stop_token& stop) {
    const std::string id = record.migration_id();
    const absl::Status resumed = resume_until_it_runs(
        [&] { return vm.resume(kResumeLimit); }, [&] { return pause(stop); },
        [&](const absl::Status& trouble) {
            spdlog::error("migration {}: the guest is here and does not run yet: {}", id,
                          std::string(trouble.message()));
        });
    if (absl::IsCancelled(resumed)) return;  // the next agent goes on
    record.set_guest_gone(!resumed.ok());
    const std::string detail =
        resumed.ok() ? "resumed by a restarted agent" : "its QEMU ended after COMMIT";
    settle(record, v1::JOURNAL_PHASE_RESUMED, detail);
    if (!record.guest_gone()) note_arrival(record, vm);
    vms_.release(record.vm(), id);
    if (const absl::Status status = vm.announce(); !status.ok())
        spdlog::warn("migration {}: announce: {}", id, std::string(status.message()));
}

}  // namespace godwit
