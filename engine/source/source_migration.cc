#include "engine/source/source_migration.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/source/arrival.h"
#include "engine/source/auto_streams.h"
#include "engine/source/handover.h"
#include "engine/source/in_doubt.h"
#include "engine/source/kept_ram.h"
#include "engine/source/native_migration.h"
#include "engine/source/persistent_rollback.h"
#include "engine/source/recovery_plan.h"

namespace godwit {
namespace {

constexpr Duration kKillLimit = std::chrono::seconds(10);

uint64_t unix_ms() {
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                     std::chrono::system_clock::now().time_since_epoch())
                                     .count());
}

// Removes the listener when the migration ends, however it ends.
class Listening {
  public:
    Listening(Vm& vm, SourceSignals& signals) : vm_(vm) {
        vm_.set_listener([&signals](const GuestEvent& event) { signals.on_guest_event(event); });
    }
    ~Listening() { vm_.set_listener({}); }
    Listening(const Listening&) = delete;
    Listening& operator=(const Listening&) = delete;

  private:
    Vm& vm_;
};

}  // namespace

SourceMigration::SourceMigration(MigrationSettings settings, SourceDependencies dependencies)
    : settings_(std::move(settings)),
      dependencies_(std::move(dependencies)),
      vm_name_(dependencies_.vm->spec().name()),
      signals_(settings_.streams == kAutoStreams ? AutoStreams::kMost : settings_.streams),
      limiter_(settings_.bandwidth_bytes_per_s),
      guest_(dependencies_.vm) {}

absl::Status SourceMigration::cancel() {
    // Held until the cancel is seen too: who finds ABORT in the word learns here whose it is.
    const std::lock_guard lock(word_mutex_);
    if (is_over_) return absl::FailedPreconditionError(is_undone_ ? kGivenBackAlready : kTooLate);
    if (!word_) {
        cancelled_early_ = true;
    } else if (!word_->decide(Verdict::kAbort)) {
        return absl::FailedPreconditionError(is_undone_ ? kGivenBackAlready : kTooLate);
    }
    signals_.update([](SourceSignals::Seen& seen) { seen.cancelled = true; });
    return absl::OkStatus();
}

void SourceMigration::limit(Bytes bytes_per_second) {
    limiter_.set_rate(bytes_per_second);
    const char* phase = nullptr;
    {
        const std::lock_guard lock(drain_mutex_);
        phase = drain_ ? "drain" : live_over_ ? "handover" : "rounds";
    }
    log_.message(phase, limit_text(bytes_per_second));
}

v1::MigrationReport SourceMigration::run(const std::stop_token& stop) {
    v1::MigrationReport report;
    report.set_migration_id(settings_.id);
    report.set_vm(vm_name_);
    report.set_engine("godwit");
    report.set_strategy(std::string(strategy_name(settings_.limits.strategy)));
    report.set_source(dependencies_.own_address);
    report.set_destination(settings_.destination.to_string());
    report.set_compression(std::string(compression_name(settings_.compression)));
    report.set_started_unix_ms(unix_ms());
    const MonotonicTime started_at = Clock::system().now();
    report.set_retry_safe(true);
    if (dependencies_.prediction) *report.mutable_prediction() = *dependencies_.prediction;

    absl::StatusOr<Journal> journal = Journal::open(dependencies_.state_dir, settings_.id);
    absl::StatusOr<DecisionWord> word =
        journal.ok() ? DecisionWord::open(journal->word_path()) : journal.status();
    if (!word.ok()) {
        report.set_outcome(v1::OUTCOME_REFUSED);
        report.set_reason(std::string(word.status().message()));
        dependencies_.vm.reset();
        return report;
    }
    {
        const std::lock_guard lock(word_mutex_);
        word_.emplace(std::move(*word));
        if (cancelled_early_) word_->decide(Verdict::kAbort);
    }
    v1::JournalRecord record;
    record.set_migration_id(settings_.id);
    record.set_vm(vm_name_);
    record.set_vm_incarnation(dependencies_.vm->incarnation());
    record.set_peer(settings_.destination.to_string());
    record.set_undefine_source(settings_.undefine_source);
    record.set_vm_uuid(dependencies_.vm->spec().uuid());
    record.set_bandwidth_bytes_per_s(settings_.bandwidth_bytes_per_s);
    record.set_congestion_control(settings_.congestion_control);
    for (const std::string& address : settings_.source_addresses)
        record.add_source_addresses(address);
    TransferClient peer(settings_.destination);
    SourceContext context{
        .settings = settings_,
        .vm = *dependencies_.vm,
        .log = log_,
        .signals = signals_,
        .report = report,
        .journal = *journal,
        .record = record,
        .word = *word_,
        .at_step = dependencies_.at_step,
        .limiter = limiter_,
        .peer = peer,
        .forget_operators_word = [this] { operators_word_.forget(); },
        .fixed_cost = dependencies_.fixed_cost,
        .guard_program = dependencies_.guard_program,
        .state_dir = dependencies_.state_dir,
        .tcp = {.congestion_control = settings_.congestion_control, .ring = dependencies_.ring},
        .placement = dependencies_.placement,
        .started_at = started_at,
        .switch_requested = switch_requested_,
        .is_held = is_held_};
    const std::stop_callback on_stop(stop, [this] { static_cast<void>(cancel()); });
    {
        const Listening listening(context.vm, signals_);
        migrate(context, stop);
        context.guard.reset();
    }
    report.set_bandwidth_bytes_per_s(limiter_.rate());
    report.set_total_ms(to_ms(Clock::system().now() - context.started_at));
    if (settings_.undefine_source && !record.native() &&
        report.guest_at() == v1::GUEST_AT_DESTINATION) {
        absl::Status undefined = annotate(await_arrival(peer, settings_.id, stop),
                                          "The VM's definition stays at the source");
        unfinished_ |= absl::IsCancelled(undefined);
        if (undefined.ok()) undefined = context.vm.undefine();
        if (!undefined.ok()) report.add_warnings(std::string(undefined.message()));
    }
    if (!unfinished_ && report.guest_at() == v1::GUEST_AT_DESTINATION)
        for (std::string& left : context.vm.left_behind()) report.add_warnings(std::move(left));
    context.at_step(step::kConcluded);
    dependencies_.vm.reset();
    if (report.outcome() != v1::OUTCOME_IN_DOUBT && !unfinished_)
        record.set_phase(v1::JOURNAL_PHASE_ENDED);
    *record.mutable_report() = report;
    if (const absl::Status status = journal->write(record, Journal::Durability::kPageCache);
        !status.ok())
        spdlog::error("migration {}: {}", settings_.id, std::string(status.message()));
    // An agent remembers a thousand migrations, which is no reason to map a thousand words.
    const std::lock_guard lock(word_mutex_);
    is_over_ = true;
    word_.reset();
    return report;
}

void SourceMigration::migrate(SourceContext& context, const std::stop_token& stop) {
    log_.message("prepare",
                 fmt::format("{} goes to {}", vm_name_, settings_.destination.to_string()));
    if (settings_.native_fallback) {
        const absl::StatusOr<std::vector<std::string>> why = context.vm.migration_blockers();
        if (why.ok() && !why->empty())
            return migrate_natively(context, fmt::format("{}", fmt::join(*why, "; ")));
    }
    absl::Status status = prepare(context);
    if (!status.ok()) return undo(context, status, nullptr, stop);
    context.at_step(step::kPrepared);

    absl::StatusOr<LiveResult> live = run_live_rounds(context);
    if (!live.ok()) return undo(context, live.status(), nullptr, stop);
    context.report.set_switch_reason(live->decision.reason);
    const SourceStreams::ZeroCopy zero_copy = context.streams->zero_copy();
    context.report.set_zero_copy_streams(zero_copy.streams);
    spdlog::info("migration {}: zero-copy sends: {}", settings_.id, zero_copy.explanation);
    {
        const std::lock_guard lock(drain_mutex_);
        live_over_ = true;
    }

    Handover handover(context);
    status = check_memory(context.vm);
    if (status.ok()) status = handover.make_ready(*live);
    if (status.ok()) status = handover.freeze(std::move(*live));
    was_running_ = handover.was_running();
    if (!status.ok()) return undo(context, status, &handover, stop);
    log_.message("handover", "device state loaded at the destination");

    std::string why;
    CommitEnd end = handover.commit(why);
    if (handover.drain() && (end == CommitEnd::kResumed || end == CommitEnd::kInDoubt))
        return drain(context, handover, stop);
    if (end == CommitEnd::kInDoubt) {
        log_.message("handover", fmt::format("in doubt: COMMIT was sent, but {}; asking {}", why,
                                             settings_.destination.to_string()));
        in_doubt_ = true;
        const std::optional<FateAnswer> answer =
            settle_doubt({.peer = context.peer,
                          .migration_id = settings_.id,
                          .operators_word = operators_word_,
                          .copy_here = [this] { return copy_in_doubt(); },
                          .note_resolution = [&](Fate fate) { note_resolution(context, fate); },
                          .heard =
                              [this](const std::string& heard) {
                                  spdlog::warn("migration {}: in doubt; {}", settings_.id, heard);
                                  log_.message("handover", "in doubt: " + heard);
                              }},
                         stop);
        if (!answer) {
            context.report.set_outcome(v1::OUTCOME_IN_DOUBT);
            context.report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
            context.report.set_retry_safe(false);
            context.report.set_reason("COMMIT was sent and the destination has not answered: " +
                                      why);
            return;
        }
        in_doubt_ = false;
        if (answer->fate == Fate::kNowhere) return finish_lost(context, answer->detail);
        if (answer->by_operator) {
            why = answer->detail;
            if (answer->fate == Fate::kAtDestination) context.report.set_reason(why);
        } else if (answer->fate == Fate::kRefused && !answer->detail.empty()) {
            why = fmt::format("the destination refused: {} ({})", answer->detail, why);
        }
        // RESUMED reached the source now, in answer to a question.
        if (answer->fate == Fate::kAtDestination) handover.fill_downtime(Clock::system().now());
        if (answer->guest_gone)
            return finish_lost(context, "the destination says: " + answer->detail);
        end = answer->fate == Fate::kAtDestination ? CommitEnd::kResumed : CommitEnd::kRefused;
    }
    if (end == CommitEnd::kResumed) return finish_at_destination(context);
    undo(context, absl::AbortedError(why), &handover, stop);
}

absl::Status SourceMigration::give_back(SourceContext& context, const std::stop_token& stop) {
    const absl::Status status =
        roll_back_persistently(context.vm, was_running_, stop, [&](const absl::Status& reason) {
            const std::string text = fmt::format(
                "the guest is at the source and is not seen to run yet: {}; trying again until it "
                "is",
                std::string(reason.message()));
            log_.message("undo", text);
            spdlog::error("migration {}: {}", settings_.id, text);
        });
    unfinished_ = absl::IsCancelled(status);
    return status;
}

// Before COMMIT, or after REFUSED: the guest first, everything else after it.
void SourceMigration::undo(SourceContext& context, const absl::Status& cause, Handover* handover,
                           const std::stop_token& stop) {
    v1::MigrationReport& report = context.report;
    {
        // Nobody is told from now on that it switches over.
        const std::lock_guard lock(drain_mutex_);
        live_over_ = true;
        signals_.end_hold();
    }
    {
        const std::lock_guard lock(word_mutex_);
        is_undone_ = true;
    }
    context.word.decide(Verdict::kAbort);
    absl::Status rolled_back;
    const bool frozen = handover != nullptr && handover->began();
    if (frozen) rolled_back = give_back(context, stop);
    if (context.throttle) {
        if (const absl::Status released = context.throttle->release(); !released.ok())
            spdlog::warn("migration {}: {}", settings_.id, std::string(released.message()));
        context.throttle.reset();
    }
    // Whoever pauses the guest from now on is not to be overruled.
    if (frozen && rolled_back.ok()) handover->dismiss_guard();
    if (handover != nullptr && !frozen) handover->forgo();
    release_kept_ram(context.record).IgnoreError();
    if (context.tracker) {
        if (const absl::Status stopped = context.tracker->stop(); !stopped.ok())
            spdlog::warn("migration {}: {}", settings_.id, std::string(stopped.message()));
    }
    if (context.streams) {
        report.set_wire_bytes(context.streams->sent_bytes());
        // Its reader may be answering a fault: the drain that does so dies before the streams.
        context.streams->close();
    }
    if (prepared_) {
        const absl::Status told = context.peer.abort(settings_.id, std::string(cause.message()));
        if (!told.ok())
            spdlog::warn("migration {}: the destination was not told: {}", settings_.id,
                         std::string(told.message()));
    }
    bool cancelled = false;
    {
        const std::lock_guard lock(word_mutex_);
        cancelled = signals_.seen().cancelled;
    }
    report.set_reason(cancelled ? "cancelled" : std::string(cause.message()));
    if (const auto state = context.vm.run_state();
        signals_.seen().guest_gone || absl::IsNotFound(state.status())) {
        report.set_outcome(v1::OUTCOME_GUEST_DIED);
        report.set_guest_at(v1::GUEST_AT_NONE);
        report.set_retry_safe(false);
        if (!signals_.seen().moved_by_others) return;
        report.set_outcome(v1::OUTCOME_FAILED);
        report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
        report.set_reason(
            "somebody else migrated the guest meanwhile, and its QEMU has ended here: where they "
            "moved it, they know");
        return;
    }
    report.set_guest_at(v1::GUEST_AT_SOURCE);
    report.set_retry_safe(true);
    report.set_outcome(cancelled                  ? v1::OUTCOME_CANCELLED
                       : untouched_ && !prepared_ ? v1::OUTCOME_REFUSED
                                                  : v1::OUTCOME_FAILED);
    if (!rolled_back.ok()) {
        report.set_outcome(v1::OUTCOME_FAILED);
        report.set_guest_at(v1::GUEST_AT_NEEDS_OPERATOR);
        report.set_retry_safe(false);
        report.set_reason(fmt::format("{}; and the guest could not be resumed at the source: {}",
                                      report.reason(), std::string(rolled_back.message())));
    }
}

// The disks have moved on, or may have: the source's copy is never run.
void SourceMigration::finish_lost(SourceContext& context, const std::string& why) {
    v1::MigrationReport& report = context.report;
    resumed_there_ = true;
    report.set_wire_bytes(std::max(report.wire_bytes(), context.streams->sent_bytes()));
    report.set_outcome(v1::OUTCOME_GUEST_DIED);
    report.set_guest_at(v1::GUEST_AT_NONE);
    report.set_retry_safe(false);
    report.set_reason(why);
    kill_guest(context);
    release_kept_ram(context.record).IgnoreError();
    context.streams->shutdown();
}

void SourceMigration::finish_at_destination(SourceContext& context) {
    v1::MigrationReport& report = context.report;
    resumed_there_ = true;
    context.at_step(step::kResumedSeen);
    report.set_wire_bytes(context.streams->sent_bytes());
    report.set_outcome(v1::OUTCOME_DONE);
    report.set_guest_at(v1::GUEST_AT_DESTINATION);
    report.set_retry_safe(false);
    kill_guest(context);
    release_kept_ram(context.record).IgnoreError();
    context.streams->shutdown();
}

// To the disk, before anything is done about it: a successor must not ask again. Where the guest's
// QEMU has ended here nothing is given back: a destination that has all pages may go on with it.
void SourceMigration::note_resolution(SourceContext& context, Fate fate) {
    spdlog::warn("migration {}: {}", settings_.id, operators_word_text(fate));
    if (fate == Fate::kRefused) {
        if (!context.record.postcopy() && !is_guest_here(guest_) &&
            !signals_.seen().moved_by_others)
            return;
        given_back_ = true;
    }
    context.record.set_resolution(resolution_of(fate));
    if (const absl::Status status =
            context.journal.write(context.record, Journal::Durability::kDisk);
        !status.ok())
        spdlog::error("migration {}: {}", settings_.id, std::string(status.message()));
}

absl::Status SourceMigration::resolve(Fate fate) {
    if (fate != Fate::kRefused && in_doubt_ && is_guest_running(guest_))
        return absl::FailedPreconditionError(kRunsHere);
    const std::lock_guard lock(drain_mutex_);
    const bool may_be_lost = in_doubt_ || (drain_ && resumed_there_);
    if (fate == Fate::kNowhere && !may_be_lost) return absl::FailedPreconditionError(kIsNotAwaited);
    if (fate != Fate::kNowhere && !in_doubt_) return absl::FailedPreconditionError(kNothingInDoubt);
    if (drain_ && fate == Fate::kAtDestination)
        return absl::FailedPreconditionError(kLastPagesAreHere);
    if (drain_ && fate == Fate::kRefused && copy_in_doubt() == SourceCopy::kEnded)
        return absl::FailedPreconditionError(kCannotComeBack);
    const auto say = [&] { return operators_word_.say(fate); };
    if (!drain_) return say();
    GODWIT_ASSIGN_OR_RETURN(const bool counts, drain_->give_up(fate, say));
    return counts ? absl::OkStatus() : absl::FailedPreconditionError(kIsNotAwaited);
}

// One that somebody else moved meanwhile is not seen to be gone.
SourceCopy SourceMigration::copy_in_doubt() {
    return is_guest_here(guest_) || signals_.seen().moved_by_others ? SourceCopy::kStands
                                                                    : SourceCopy::kEnded;
}

bool SourceMigration::given_back() {
    const bool said = operators_word_.given_back();
    if (resumed_there_) return false;
    return given_back_ || (said && is_guest_here(guest_));
}

// Nobody may start a second guest from this QEMU.
void SourceMigration::kill_guest(SourceContext& context) {
    if (const absl::Status killed = context.vm.kill(kKillLimit); !killed.ok())
        context.report.add_warnings(fmt::format("the source's QEMU (pid {}) could not be ended: {}",
                                                context.vm.pid(), std::string(killed.message())));
}

}  // namespace godwit
