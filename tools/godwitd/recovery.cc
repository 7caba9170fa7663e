// What an agent does about the migrations of its predecessor.
#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <mutex>

#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/guest/vm_file/uuid.h"
#include "engine/handover/decision_word.h"
#include "engine/handover/guard.h"
#include "engine/source/arrival.h"
#include "engine/source/drain.h"
#include "engine/source/in_doubt.h"
#include "engine/source/kept_ram.h"
#include "engine/source/recovery_plan.h"
#include "tools/godwitd/found_guest.h"
#include "tools/godwitd/migration_registry.h"
#include "tools/godwitd/recovery_report.h"

namespace godwit {
namespace {

// A guard sees the death of its agent at once, and then waits for QEMU no longer than this.
constexpr Duration kGuardLimit = std::chrono::minutes(3);
constexpr Duration kFirstAnswerLimit = std::chrono::seconds(5);
constexpr const char* kLastPagesFollow = "the agent was restarted; the guest's last pages follow";
constexpr const char* kDestinationIsAsked =
    "the agent was restarted; the destination is asked how the drain ended";

// The guest's memory as it was frozen: while its QEMU stands here, that has it too. `vm` may be
// none.
absl::StatusOr<LastPages> open_last_pages(const v1::JournalRecord& record, Vm* vm) {
    absl::StatusOr<std::vector<RamBlock>> blocks = open_kept_ram(record);
    if (blocks.ok()) return LastPages{.blocks = *std::move(blocks)};
    if (!kept_ram_is_lost(blocks.status()) || vm == nullptr) return blocks.status();
    absl::StatusOr<LastPages> of_qemu = open_ram_of_qemu(vm->ram_blocks(), record);
    if (of_qemu.ok())
        spdlog::warn("migration {}: {}; its QEMU has the guest's memory still",
                     record.migration_id(), std::string(blocks.status().message()));
    return of_qemu;
}

bool guest_runs(Vm& vm) {
    const absl::StatusOr<RunState> state = vm.run_state();
    return state.ok() && *state == RunState::kRunning;
}

}  // namespace

void MigrationRegistry::recover() {
    std::vector<v1::JournalRecord> records = Journal::load_all(options_.state_dir);
    std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
        return a.report().started_unix_ms() < b.report().started_unix_ms();
    });
    for (const v1::JournalRecord& record : records)
        if (record.role() == v1::ROLE_SOURCE) recover_one(record);
}

void MigrationRegistry::recover_one(const v1::JournalRecord& record) {
    auto entry = std::make_shared<Entry>();
    entry->id = record.migration_id();
    entry->vm = record.vm();
    entry->uuid = uuid_digits(record.vm_uuid());
    entry->report = record.report();
    entry->report.set_migration_id(entry->id);
    entry->report.set_vm(entry->vm);
    entry->report.set_destination(record.peer());
    entry->ended = record.phase() == v1::JOURNAL_PHASE_ENDED;
    entry->given_back = record.resolution() == v1::RESOLUTION_AT_SOURCE;
    {
        const std::lock_guard lock(mutex_);
        entries_.push_back(entry);
        if (entry->ended) fixed_costs_.note(entry->report);
    }
    if (!entry->ended) finish_for_predecessor(entry, record);
}

// The VM that the record is about, held; none when it has ended or another has its name now.
std::shared_ptr<Vm> MigrationRegistry::hold_vm_of(const v1::JournalRecord& record) {
    const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.hold(record.vm(), record.migration_id());
    if (!vm.ok()) return nullptr;
    if ((*vm)->incarnation() == record.vm_incarnation()) return *vm;
    vms_.release(record.vm(), record.migration_id());
    return nullptr;
}

void MigrationRegistry::finish_for_predecessor(const std::shared_ptr<Entry>& entry,
                                               const v1::JournalRecord& record) {
    const std::shared_ptr<Vm> vm = hold_vm_of(record);
    if (record.native()) return finish_native(*entry, record, vm != nullptr);
    const FoundGuest guest{.vm = vm, .left_alone = !vm && vms_.is_left_alone(entry->vm)};
    const absl::StatusOr<Journal> journal = Journal::open(options_.state_dir, entry->id);
    absl::StatusOr<DecisionWord> word =
        journal.ok() ? DecisionWord::find(journal->word_path()) : journal.status();
    const bool froze = record.phase() == v1::JOURNAL_PHASE_FREEZING;
    v1::MigrationReport report = entry->report;
    if (froze && !word.ok())
        spdlog::error("migration {}: {}", entry->id, std::string(word.status().message()));
    absl::StatusOr<LastPages> pages = absl::UnknownError("not looked for");
    const FoundAtSource found{
        .record = record,
        .word = word.ok() ? absl::StatusOr<Verdict>(word->read()) : word.status(),
        .vm = vm != nullptr,
        .left_alone = guest.left_alone,
        .runs = [&] { return guest_runs(*vm); },
        .has_kept_ram =
            [&] {
                pages = open_last_pages(record, vm.get());
                if (pages.ok() || !kept_ram_is_lost(pages.status())) return true;
                spdlog::warn("migration {}: there is nothing to send: {}", entry->id,
                             std::string(pages.status().message()));
                return false;
            }};
    switch (plan_source_recovery(found)) {
        case SourceRecovery::kWasGivenBack:
            at_source(report, "the agent ended after the destination had refused");
            return conclude(*entry, record, report);
        case SourceRecovery::kIsElsewhere:
            end_stale_qemu(guest, report);
            taken_over(report, operators_word_text(Fate::kAtDestination));
            entry->committed = true;
            entry->report.set_guest_at(v1::GUEST_AT_DESTINATION);
            entry->pending = report.reason();
            entry->thread =
                std::jthread([this, entry, record, report](const std::stop_token& stop) {
                    set_thread_name("resolved");
                    conclude(*entry, record, report, stop);
                });
            return await_end(*entry);
        case SourceRecovery::kIsNowhere:
            died(report, operators_word_text(Fate::kNowhere));
            end_stale_qemu(guest, report);
            return conclude(*entry, record, report);
        case SourceRecovery::kDrain:
            entry->in_doubt = froze;
            entry->has_left = !froze;
            entry->has_last_pages = true;
            entry->guest = vm;
            entry->committed = true;
            entry->log = std::make_shared<EventLog>();
            entry->limiter = std::make_shared<RateLimiter>(record.bandwidth_bytes_per_s());
            if (!froze) entry->report.set_guest_at(v1::GUEST_AT_DESTINATION);
            entry->pending = pages.ok()
                                 ? kLastPagesFollow
                                 : fmt::format(
                                       "{} once they can be opened, which is tried again "
                                       "and again: {}",
                                       kLastPagesFollow, std::string(pages.status().message()));
            entry->thread = std::jthread([this, entry, record, guest, kept = std::move(pages)](
                                             const std::stop_token& stop) mutable {
                set_thread_name("drain");
                v1::JournalRecord now = record;
                const auto known = [&] {
                    kept = open_last_pages(now, guest.vm.get());
                    return kept.ok() || kept_ram_is_lost(kept.status());
                };
                if (!kept.ok()) {
                    if (const auto fate = ask_fate(entry, now, guest, known, stop))
                        return conclude_fate(entry, now, guest, *fate, stop);
                    const std::lock_guard lock(mutex_);
                    entry->pending = kept.ok() ? kLastPagesFollow : kDestinationIsAsked;
                }
                if (kept.ok())
                    finish_drain(entry, now, guest, *kept, stop);
                else if (!stop.stop_requested())
                    finish_doubt(entry, now, guest, stop);
            });
            return;
        case SourceRecovery::kAsk:
            entry->in_doubt = froze;
            entry->has_left = !froze;
            entry->guest = vm;
            entry->committed = may_have_committed(found) || !froze;
            if (!froze) {
                entry->report.set_guest_at(v1::GUEST_AT_DESTINATION);
                entry->pending = kDestinationIsAsked;
            }
            entry->thread = std::jthread([this, entry, record, guest](const std::stop_token& stop) {
                set_thread_name("in-doubt");
                finish_doubt(entry, record, guest, stop);
            });
            return;
        case SourceRecovery::kNeedsOperator:
            needs_operator(report,
                           "the agent ended during the migration, and the VM's QEMU could not be "
                           "adopted: the agent's log says why");
            return conclude(*entry, record, report);
        case SourceRecovery::kHasDied:
            died(report, "the agent ended during the migration, and the VM's QEMU has ended too");
            return conclude(*entry, record, report);
        case SourceRecovery::kWasNotFrozen:
            if (word.ok()) word->decide(Verdict::kAbort);
            if (absl::IsNotFound(vm->run_state().status()))
                died(report, "the agent ended during the migration, and the VM's QEMU has ended");
            else
                at_source(report, "the agent ended during the migration");
            return conclude(*entry, record, report);
        case SourceRecovery::kGiveBack:
            break;
    }
    if (word.ok()) word->decide(Verdict::kAbort);
    const std::string why = record.resolution() != v1::RESOLUTION_NONE
                                ? operators_word_text(Fate::kRefused)
                                : std::string("the agent ended during the migration");
    entry->pending = why + "; the guest is being given back";
    entry->thread = std::jthread([this, entry, record, guest, why](const std::stop_token& stop) {
        set_thread_name("roll-back");
        v1::MigrationReport rolled_back = entry->report;
        if (give_back(guest, record, why, stop, rolled_back).ok())
            conclude(*entry, record, rolled_back, stop);
    });
    await_end(*entry);
}

// Mostly done at once: whoever asks first then hears how it ended.
void MigrationRegistry::await_end(const Entry& entry) {
    std::unique_lock lock(mutex_);
    ended_.wait_for(lock, kFirstAnswerLimit, [&] { return entry.ended; });
}

// The hypervisor goes on by itself, or has ended it; either way it knows more than the journal.
void MigrationRegistry::finish_native(Entry& entry, const v1::JournalRecord& record, bool is_here) {
    v1::MigrationReport report = entry.report;
    if (is_here)
        at_source(report,
                  "the agent ended while the hypervisor moved the VM by itself, and may still do "
                  "so (virsh domjobinfo)");
    else
        needs_operator(report,
                       "the agent ended while the hypervisor moved the VM by itself; it is here no "
                       "more: look for it at the destination (virsh list)");
    conclude(entry, record, report);
}

// Nobody may move the VM while a guard of the earlier agent may still act on it.
void MigrationRegistry::conclude(Entry& entry, v1::JournalRecord record, v1::MigrationReport report,
                                 const std::stop_token& stop) {
    if (record.undefine_source() && report.outcome() == v1::OUTCOME_DONE) {
        const absl::StatusOr<HostPort> address = parse_host_port(record.peer());
        absl::Status undefined = address.status();
        if (address.ok()) {
            TransferClient peer(*address);
            undefined =
                annotate(await_arrival(peer, entry.id, stop), "The VM's definition stays here");
        }
        if (absl::IsCancelled(undefined)) return;  // the next agent goes on
        if (undefined.ok()) undefined = vms_.undefine(record.vm_uuid());
        if (!undefined.ok()) report.add_warnings(std::string(undefined.message()));
    }
    if (report.guest_at() == v1::GUEST_AT_DESTINATION)
        for (std::string& left : vms_.left_behind(record.vm_uuid()))
            report.add_warnings(std::move(left));
    const absl::StatusOr<Journal> journal = Journal::open(options_.state_dir, entry.id);
    absl::Status status = journal.status();
    if (journal.ok()) {
        status = await_guard_end(journal->word_path(), Clock::system().now() + kGuardLimit);
        if (const absl::Status removed = release_kept_ram(record); !removed.ok())
            spdlog::warn("migration {}: {}", entry.id, std::string(removed.message()));
        record.set_phase(v1::JOURNAL_PHASE_ENDED);
        *record.mutable_report() = report;
        status.Update(journal->write(record, Journal::Durability::kDisk));
    }
    if (!status.ok()) spdlog::error("migration {}: {}", entry.id, std::string(status.message()));
    end(entry, report);
}

// COMMIT was sent, and pages may be missing at the destination.
void MigrationRegistry::finish_drain(const std::shared_ptr<Entry>& entry, v1::JournalRecord record,
                                     const FoundGuest& guest, const LastPages& pages,
                                     const std::stop_token& stop) {
    v1::MigrationReport report = entry->report;
    // For how long the agent was away nobody knows.
    report.mutable_postcopy()->set_interruptions(report.postcopy().interruptions() + 1);
    const absl::StatusOr<HostPort> address = parse_host_port(record.peer());
    if (!address.ok()) return;
    const auto write_record = [&] {
        if (const auto journal = Journal::open(options_.state_dir, entry->id); journal.ok())
            journal->write(record, Journal::Durability::kPageCache).IgnoreError();
    };
    absl::StatusOr<std::unique_ptr<Drain>> made = Drain::create(
        {.migration_id = entry->id,
         .destination = *address,
         .streams = static_cast<uint16_t>(record.streams()),
         .limiter = entry->limiter.get(),
         .on_limit =
             [&](Bytes bytes_per_s) {
                 record.set_bandwidth_bytes_per_s(bytes_per_s);
                 write_record();
             },
         .on_word_forgotten = [&word = entry->operators_word] { word.forget(); },
         .tcp = {.congestion_control = record.congestion_control(), .ring = options_.ring},
         .source_addresses = {record.source_addresses().begin(), record.source_addresses().end()},
         .placement = options_.placement,
         .blocks = pages.blocks,
         .log = entry->log.get(),
         .has_left = record.phase() == v1::JOURNAL_PHASE_DRAINING,
         .is_guest_here = [&guest] { return guest.may_stand(); }});
    if (!made.ok()) {
        spdlog::error("migration {}: {}", entry->id, std::string(made.status().message()));
        return;
    }
    const std::shared_ptr<Drain> drain = *std::move(made);
    {
        const std::lock_guard lock(mutex_);
        entry->drain = drain;
        // Before there was anybody to hear it.
        if (const std::optional<Fate> said = entry->operators_word.said())
            drain->give_up(*said, [] { return absl::OkStatus(); }).IgnoreError();
    }
    const auto on_resumed = [&](MonotonicTime) {
        if (pages.kept.ok())
            end_stale_qemu(guest, report);
        else
            spdlog::warn(
                "migration {}: the source's QEMU stands until the last page has come, for it alone "
                "has these for a successor of this agent: {}",
                entry->id, std::string(pages.kept.message()));
        report.set_guest_at(v1::GUEST_AT_DESTINATION);
        *record.mutable_report() = report;
        note_left(*entry, record);
    };
    const Drain::Outcome outcome = drain->run({}, on_resumed, stop);
    {
        const std::lock_guard lock(mutex_);
        entry->drain.reset();
    }
    report.set_wire_bytes(report.wire_bytes() + drain->sent_bytes());
    report.set_bandwidth_bytes_per_s(entry->limiter->rate());
    switch (outcome.end) {
        case Drain::End::kStopped:
            return;  // the next agent goes on
        case Drain::End::kDrained:
            end_stale_qemu(guest, report);
            report.set_outcome(v1::OUTCOME_DONE);
            report.set_guest_at(v1::GUEST_AT_DESTINATION);
            report.set_retry_safe(false);
            report.clear_reason();  // an agent that was told to end has left one
            *report.mutable_postcopy() =
                whole_drain(report.postcopy(), outcome.postcopy, record.resumed_unix_ms());
            report.add_warnings(
                "the source's agent was restarted in the drain; nothing was verified");
            break;
        case Drain::End::kGuestGone:
            if (outcome.by_operator) note_resolution(*entry, record, Fate::kNowhere);
            died(report,
                 outcome.by_operator ? outcome.detail : "the destination says: " + outcome.detail);
            end_stale_qemu(guest, report);
            break;
        case Drain::End::kRefused: {
            if (outcome.by_operator) note_resolution(*entry, record, Fate::kRefused);
            const std::string why = outcome.by_operator
                                        ? outcome.detail
                                        : std::string("the destination refused after COMMIT");
            if (!give_back(guest, record, why, stop, report).ok()) return;
            break;
        }
    }
    conclude(*entry, record, report, stop);
}

// To the disk, before anything is done about it: a successor must not ask again.
void MigrationRegistry::note_resolution(Entry& entry, v1::JournalRecord& record, Fate fate) {
    spdlog::warn("migration {}: {}", record.migration_id(), operators_word_text(fate));
    {
        const std::lock_guard lock(mutex_);
        entry.given_back = fate == Fate::kRefused;
    }
    record.set_resolution(resolution_of(fate));
    const absl::StatusOr<Journal> journal =
        Journal::open(options_.state_dir, record.migration_id());
    absl::Status status = journal.status();
    if (journal.ok()) status = journal->write(record, Journal::Durability::kDisk);
    if (!status.ok())
        spdlog::error("migration {}: {}", record.migration_id(), std::string(status.message()));
}

// RESUMED was heard: nothing that is here is run any more.
void MigrationRegistry::note_left(Entry& entry, v1::JournalRecord& record) {
    record.set_phase(v1::JOURNAL_PHASE_DRAINING);
    if (record.resumed_unix_ms() == 0) record.set_resumed_unix_ms(unix_ms());
    if (const auto journal = Journal::open(options_.state_dir, entry.id); journal.ok())
        journal->write(record, Journal::Durability::kPageCache).IgnoreError();
    const std::lock_guard lock(mutex_);
    entry.in_doubt = false;
    entry.has_left = true;
    entry.report.set_guest_at(v1::GUEST_AT_DESTINATION);
}

void MigrationRegistry::finish_doubt(const std::shared_ptr<Entry>& entry, v1::JournalRecord record,
                                     const FoundGuest& guest, const std::stop_token& stop) {
    {
        const std::lock_guard lock(mutex_);
        entry->has_last_pages = false;
    }
    // None: the next agent goes on asking.
    if (const auto fate = ask_fate(entry, record, guest, {}, stop))
        conclude_fate(entry, record, guest, *fate, stop);
}

// Until the destination, or an operator, says what becomes of it. Nothing: the agent ends, or
// `pages_came` (as settle_doubt()'s; none: there are no pages to come).
std::optional<FateAnswer> MigrationRegistry::ask_fate(const std::shared_ptr<Entry>& entry,
                                                      v1::JournalRecord& record,
                                                      const FoundGuest& guest,
                                                      const std::function<bool()>& pages_came,
                                                      const std::stop_token& stop) {
    const absl::StatusOr<HostPort> address = parse_host_port(record.peer());
    if (!address.ok()) return std::nullopt;
    TransferClient peer(*address);
    return settle_doubt({.peer = peer,
                         .migration_id = entry->id,
                         .operators_word = entry->operators_word,
                         .copy_here =
                             [&] {
                                 if (record.phase() == v1::JOURNAL_PHASE_DRAINING)
                                     return SourceCopy::kLeft;
                                 return guest.may_stand() ? SourceCopy::kStands
                                                          : SourceCopy::kEnded;
                             },
                         .note_resolution =
                             [&](Fate fate) {
                                 // Where its QEMU has ended here nothing is given back: the
                                 // destination may go on with it, unless it waits for pages that
                                 // are here.
                                 if (fate != Fate::kRefused || pages_came || guest.may_stand())
                                     note_resolution(*entry, record, fate);
                             },
                         .heard =
                             [&](const std::string& heard) {
                                 const bool has_left = record.phase() == v1::JOURNAL_PHASE_DRAINING;
                                 spdlog::warn("migration {}: {}; {}", entry->id,
                                              has_left ? "the guest has left" : "in doubt", heard);
                             },
                         .pages_came = pages_came,
                         .note_resumed = [&] { note_left(*entry, record); }},
                        stop);
}

void MigrationRegistry::conclude_fate(const std::shared_ptr<Entry>& entry,
                                      const v1::JournalRecord& record, const FoundGuest& guest,
                                      const FateAnswer& answer, const std::stop_token& stop) {
    v1::MigrationReport report = entry->report;
    const std::string refused =
        answer.by_operator ? answer.detail : std::string("the destination refused after COMMIT");
    if (answer.fate == Fate::kNowhere) {
        died(report, answer.detail);
        end_stale_qemu(guest, report);
    } else if (answer.fate == Fate::kAtDestination) {
        end_stale_qemu(guest, report);
        taken_over(report, answer.by_operator
                               ? answer.detail
                               : std::string("the agent ended after COMMIT; the destination has "
                                             "the guest"));
        if (answer.guest_gone) died(report, "the destination says: " + answer.detail);
        if (answer.lacks_pages) {
            needs_operator(report,
                           "the guest waits for pages that were lost with the source's memory: end "
                           "it there, and start it anew");
            report.set_guest_at(v1::GUEST_AT_DESTINATION);
        }
    } else if (!give_back(guest, record, refused, stop, report).ok()) {
        return;
    }
    conclude(*entry, record, report, stop);
}

}  // namespace godwit
