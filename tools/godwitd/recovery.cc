// What an agent does about the migrations of its predecessor.
#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/handover/decision_word.h"
#include "engine/source/in_doubt.h"
#include "tools/godwitd/migration_registry.h"

namespace godwit {
namespace {

constexpr Duration kRollbackLimit = std::chrono::seconds(30);
constexpr Duration kKillLimit = std::chrono::seconds(10);

void at_source(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_guest_at(v1::GUEST_AT_SOURCE);
    report.set_retry_safe(true);
    report.set_reason(reason);
}

void died(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_GUEST_DIED);
    report.set_guest_at(v1::GUEST_AT_NONE);
    report.set_retry_safe(false);
    report.set_reason(reason);
}

void needs_operator(v1::MigrationReport& report, const std::string& reason) {
    report.set_outcome(v1::OUTCOME_FAILED);
    report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
    report.set_retry_safe(false);
    report.set_reason(reason);
}

void roll_back(Vm& vm, bool was_running, v1::MigrationReport& report, const std::string& reason) {
    const absl::Status status = vm.roll_back(was_running, kRollbackLimit);
    if (status.ok()) return at_source(report, reason);
    if (absl::IsNotFound(status))
        return died(report, reason + "; and its QEMU has ended by itself");
    needs_operator(report, fmt::format("{}; and the guest could not be resumed at the source: {}",
                                       reason, std::string(status.message())));
}

}  // namespace

void MigrationRegistry::recover() {
    std::vector<v1::JournalRecord> records = Journal::load_all(options_.state_dir);
    std::sort(records.begin(), records.end(), [](const auto& a, const auto& b) {
        return a.report().started_unix_ms() < b.report().started_unix_ms();
    });
    for (v1::JournalRecord& record : records)
        if (record.role() == v1::ROLE_SOURCE) recover_one(std::move(record));
}

void MigrationRegistry::recover_one(v1::JournalRecord record) {
    auto entry = std::make_shared<Entry>();
    entry->id = record.migration_id();
    entry->vm = record.vm();
    entry->report = record.report();
    entry->ended = true;
    v1::MigrationReport& report = entry->report;
    report.set_migration_id(entry->id);
    report.set_vm(entry->vm);
    report.set_destination(record.peer());
    if (record.phase() != v1::JOURNAL_PHASE_ENDED) {
        const absl::StatusOr<std::shared_ptr<Vm>> vm = vms_.hold(entry->vm, entry->id);
        const absl::StatusOr<Journal> journal = Journal::open(options_.state_dir, entry->id);
        const absl::StatusOr<DecisionWord> word =
            journal.ok() ? DecisionWord::open(journal->word_path()) : journal.status();
        const bool committed = record.phase() == v1::JOURNAL_PHASE_FREEZING && word.ok() &&
                               word->read() == Verdict::kCommit;
        if (committed) {
            entry->ended = false;
            entry->thread = std::jthread(
                [this, entry, record, vm = vm.ok() ? *vm : nullptr](const std::stop_token& stop) {
                    set_thread_name("in-doubt");
                    finish_doubt(entry, record, vm, stop);
                });
        } else if (record.phase() == v1::JOURNAL_PHASE_FREEZING && !word.ok()) {
            needs_operator(report,
                           fmt::format("the agent ended during the migration, and whether COMMIT "
                                       "was sent cannot be read: {}",
                                       std::string(word.status().message())));
        } else if (!vm.ok() && vms_.is_left_alone(entry->vm)) {
            needs_operator(report,
                           "the agent ended during the migration, and the VM's QEMU could not be "
                           "adopted: the agent's log says why");
        } else if (!vm.ok()) {
            died(report, "the agent ended during the migration, and the VM's QEMU has ended too");
        } else {
            if (word.ok())
                DecisionWord(DecisionWord::open(journal->word_path()).value())
                    .decide(Verdict::kAbort);
            roll_back(**vm, record.was_running(), report, "the agent ended during the migration");
            vms_.release(entry->vm);
        }
        if (entry->ended) {
            spdlog::warn("migration {}: {}", entry->id, report.reason());
            record.set_phase(v1::JOURNAL_PHASE_ENDED);
            *record.mutable_report() = report;
            if (journal.ok()) journal->write(record, Journal::Durability::kDisk).IgnoreError();
        }
    }
    const std::lock_guard lock(mutex_);
    entries_.push_back(std::move(entry));
}

void MigrationRegistry::finish_doubt(const std::shared_ptr<Entry>& entry, v1::JournalRecord record,
                                     const std::shared_ptr<Vm>& vm, const std::stop_token& stop) {
    v1::MigrationReport report = entry->report;
    const absl::StatusOr<HostPort> address = parse_host_port(record.peer());
    if (!address.ok()) return;
    TransferClient peer(*address);
    const std::optional<Fate> fate = ask_until_known(peer, entry->id, stop);
    if (!fate) return;  // the next agent goes on asking
    if (*fate == Fate::kAtDestination) {
        if (vm ? !vm->kill(kKillLimit).ok() : vms_.is_left_alone(entry->vm))
            report.add_warnings("the source's QEMU could not be ended");
        report.set_outcome(v1::OUTCOME_DONE);
        report.set_guest_at(v1::GUEST_AT_DESTINATION);
        report.set_retry_safe(false);
        report.set_reason("the agent ended after COMMIT; the destination has the guest");
    } else if (vm) {
        roll_back(*vm, record.was_running(), report, "the destination refused after COMMIT");
    } else if (vms_.is_left_alone(entry->vm)) {
        needs_operator(report, "the destination refused, and the VM's QEMU could not be adopted");
    } else {
        died(report, "the destination refused, and the source's QEMU has ended");
    }
    record.set_phase(v1::JOURNAL_PHASE_ENDED);
    *record.mutable_report() = report;
    if (const auto journal = Journal::open(options_.state_dir, entry->id); journal.ok())
        journal->write(record, Journal::Durability::kDisk).IgnoreError();
    end(*entry, report);
}

}  // namespace godwit
