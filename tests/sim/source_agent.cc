#include "tests/sim/source_agent.h"

#include <fmt/format.h>

#include "engine/source/persistent_rollback.h"
#include "engine/source/recovery_plan.h"
#include "tests/sim/destination_agent.h"

namespace godwit::sim {

using Seen = SourceSignals::Seen;

void SourceAgent::die() {
    process_->alive = false;
    if (hosts_.source_qemu) {
        hosts_.source_qemu->on_event = {};
        hosts_.source_qemu->on_device_state = {};
    }
    if (!wire_) return;
    wire_->close(kSourceEnd);
    wire_->on_frame[kSourceEnd] = {};
    wire_->on_closed[kSourceEnd] = {};
}

void SourceAgent::migrate() {
    hosts_.world.spawn(process_, "migration", [self = shared_from_this()] { self->run(); });
}

// --- what it hears --------------------------------------------------------------------------

void SourceAgent::listen() {
    qemu().on_event = [this](const std::string& event) {
        GuestEvent heard{.kind = GuestEventKind::kMigration, .detail = event};
        if (event == "gone") heard.kind = GuestEventKind::kGone;
        signals_.on_guest_event(heard);
    };
    qemu().on_device_state = [this] {
        const auto send = [this](FrameKind kind) {
            return wire_->send(kSourceEnd, {.kind = kind, .stream = kUrgentStream}).ok();
        };
        return send(FrameKind::kDeviceState) && send(FrameKind::kDeviceStateEnd);
    };
}

void SourceAgent::take(const SimFrame& frame) {
    const std::optional<SourcePhase> next = godwit::after(phase_, frame.kind);
    if (!next) {
        hosts_.world.violated(
            fmt::format("{} while {}", frame_kind_name(frame.kind), phase_name(phase_)));
        return;
    }
    phase_ = *next;
    const MonotonicTime now = hosts_.world.now();
    signals_.update([&](Seen& seen) {
        if (frame.kind == FrameKind::kMarkerAck) seen.acked_round[frame.page] = frame.round;
        if (frame.kind == FrameKind::kLoaded) seen.loaded_at = now;
        if (frame.kind == FrameKind::kResumed) seen.resumed_at = now;
        if (frame.kind == FrameKind::kRefused) seen.refused = frame.text;
        if (frame.kind == FrameKind::kLoadFailed) seen.load_failed = frame.text;
        if (frame.kind == FrameKind::kPostcopyReady) seen.ready_for_faults_at = now;
    });
    take_in_drain(frame);
}

// As SourceSignals::wait().
absl::StatusOr<Seen> SourceAgent::wait_for(const char* what, MonotonicTime deadline,
                                           const std::function<bool(const Seen&)>& done) {
    const auto over = [&] {
        return done(signals_.seen()) || signals_.seen().guest_gone || !signals_.problem().ok();
    };
    hosts_.world.wait(deadline, over);
    if (done(signals_.seen())) return signals_.seen();
    if (signals_.seen().guest_gone) return absl::NotFoundError("the guest's QEMU has ended");
    GODWIT_RETURN_IF_ERROR(signals_.problem());
    return absl::DeadlineExceededError(what);
}

// --- the migration --------------------------------------------------------------------------

void SourceAgent::run() {
    record_.set_migration_id("m-0");
    record_.set_role(v1::ROLE_SOURCE);
    record_.set_vm("web");
    record_.set_peer("b:7777");
    record_.set_vm_incarnation("1");
    record_.set_was_running(hosts_.guest.was_running);
    listen();
    absl::StatusOr<DecisionWord> word = hosts_.source_disk.open_word();
    if (!word.ok()) return hosts_.world.violated(std::string(word.status().message()));
    word_ = *std::move(word);
    absl::Status status = hosts_.source_disk.write(record_, Journal::Durability::kPageCache);
    if (status.ok()) status = prepare_and_run_rounds();
    if (status.ok() && hosts_.is_postcopy) status = arm_destination();
    if (!status.ok()) return undo(std::string(status.message()), false);
    if (status = freeze_in_order(*this); !status.ok())
        return undo(std::string(status.message()), began_);
    std::string why;
    const CommitEnd end = commit_in_order(*this, why);
    hosts_.world.say(fmt::format("source: COMMIT ended as {}: {}", static_cast<int>(end), why));
    const bool may_be_there = end == CommitEnd::kResumed || end == CommitEnd::kInDoubt;
    if (pending_ && may_be_there) return drain();
    if (end == CommitEnd::kResumed) return finish_at_destination();
    if (end == CommitEnd::kInDoubt && hosts_.mutant != Mutant::kResumesWithoutAnAnswer)
        return settle_and_end([this](const std::string& reason) { undo(reason, true); });
    undo(why, true);
}

absl::Status SourceAgent::prepare_and_run_rounds() {
    const auto is_up = [this] { return hosts_.destination && hosts_.destination->lives(); };
    const absl::StatusOr<bool> prepared =
        hosts_.call<bool>("prepare", is_up, [this]() -> absl::StatusOr<bool> {
            GODWIT_RETURN_IF_ERROR(hosts_.destination->prepare());
            return true;
        });
    GODWIT_RETURN_IF_ERROR(prepared.status());
    prepared_ = true;
    if (!is_up() || !hosts_.link.up) return absl::UnavailableError("no connection");
    open_wire();
    for (int page = 0; page < kPages; ++page) qemu().dirty().insert(page);
    for (int i = 0; i < 2; ++i) GODWIT_RETURN_IF_ERROR(send_round());
    return absl::OkStatus();
}

void SourceAgent::open_wire() {
    wire_ = hosts_.wires.emplace_back(std::make_shared<Wire>(hosts_.world, hosts_.link));
    wire_->on_frame[kSourceEnd] = [this](const SimFrame& frame) { take(frame); };
    wire_->on_closed[kSourceEnd] = [this](const absl::Status& why) {
        signals_.update([&](Seen& seen) {
            if (seen.connection.ok()) seen.connection = why;
        });
    };
    hosts_.destination->accept(wire_);
}

// What was written since the last one, by two streams, confirmed.
absl::Status SourceAgent::send_round() {
    const std::set<int> dirty = std::exchange(qemu().dirty(), {});
    for (const int page : dirty) {
        at_step("page");
        if (hosts_.mutant == Mutant::kLosesAPage && hosts_.world.chance(3)) continue;
        GODWIT_RETURN_IF_ERROR(wire_->send(kSourceEnd, {.kind = FrameKind::kPages,
                                                        .stream = page % kDataStreams,
                                                        .page = page,
                                                        .version = qemu().memory()[page]}));
    }
    return send_markers();
}

// Behind what was sent, and confirmed.
absl::Status SourceAgent::send_markers() {
    ++round_;
    for (int stream = 0; stream < kDataStreams; ++stream)
        GODWIT_RETURN_IF_ERROR(wire_->send(
            kSourceEnd, {.kind = FrameKind::kMarker, .stream = stream, .round = round_}));
    at_step("round-sent");
    return wait_for("a round", hosts_.world.now() + seconds(20),
                    [&](const Seen& seen) { return seen.all_acked(round_, kDataStreams); })
        .status();
}

absl::Status SourceAgent::note_run_state() {
    if (!qemu().alive()) return absl::NotFoundError("its QEMU has ended");
    if (signals_.seen().cancelled) return absl::CancelledError("cancelled");
    return absl::OkStatus();
}

absl::Status SourceAgent::note_freezing() {
    record_.set_phase(v1::JOURNAL_PHASE_FREEZING);
    record_.set_postcopy(armed_);
    if (armed_) record_.add_kept_ram()->set_name("ram");
    GODWIT_RETURN_IF_ERROR(
        hosts_.source_disk.write(record_, hosts_.mutant == Mutant::kForgetsToSyncBeforeTheWord
                                              ? Journal::Durability::kPageCache
                                              : Journal::Durability::kDisk));
    at_step("journal");
    if (armed_) hosts_.kept_ram.link();
    return absl::OkStatus();
}

absl::Status SourceAgent::prepare_save() { return absl::OkStatus(); }

absl::Status SourceAgent::start_guard() {
    GODWIT_ASSIGN_OR_RETURN(DecisionWord word, hosts_.source_disk.open_word());
    guard_ = std::make_shared<Guard>(hosts_, process_, hosts_.guest.was_running, std::move(word));
    hosts_.guard = guard_;
    guard_->start();
    return absl::OkStatus();
}

absl::Status SourceAgent::arm_guard() {
    deadline_ = hosts_.world.now() + seconds(5);
    guard_->send({.kind = GuardMessageKind::kArm,
                  .deadline_ns = std::chrono::duration_cast<std::chrono::nanoseconds>(
                                     (deadline_ + seconds(2)).time_since_epoch())
                                     .count()});
    if (!hosts_.world.wait(seconds(5), [this] { return guard_->is_armed() || !guard_->lives(); }) ||
        !guard_->lives())
        return absl::UnavailableError("The guard has ended");
    return absl::OkStatus();
}

absl::Status SourceAgent::stop_guest() {
    signals_.forget_guest();
    if (signals_.seen().cancelled) return absl::CancelledError("cancelled");
    began_ = true;
    GODWIT_RETURN_IF_ERROR(qemu().migrate(seconds(10)));
    return wait_for("stopping the guest", deadline_,
                    [](const Seen& seen) { return seen.has_status("pre-switchover"); })
        .status();
}

absl::Status SourceAgent::send_last_set() {
    // Mostly it is too much for the pause.
    if (armed_ && !hosts_.world.chance(20)) return drop_last_set();
    if (hosts_.mutant != Mutant::kSkipsTheLastPages) GODWIT_RETURN_IF_ERROR(send_round());
    if (armed_)
        GODWIT_RETURN_IF_ERROR(
            wire_->send(kSourceEnd, {.kind = FrameKind::kPostcopyOff, .stream = kUrgentStream}));
    phase_ = SourcePhase::kSaving;
    return absl::OkStatus();
}

absl::Status SourceAgent::save_device_state() {
    GODWIT_RETURN_IF_ERROR(qemu().migrate_continue(seconds(10)));
    const auto failed = [](const Seen& seen) { return seen.has_status("failed"); };
    GODWIT_ASSIGN_OR_RETURN(
        const Seen seen,
        wait_for("saving and loading the device state", deadline_, [&](const Seen& s) {
            const bool loaded = s.loaded_at || hosts_.mutant == Mutant::kSendsCommitBeforeLoaded;
            return (s.has_status("completed") && loaded) || failed(s);
        }));
    if (failed(seen)) return absl::AbortedError("QEMU could not save the device state");
    return absl::OkStatus();
}

bool SourceAgent::decide_commit() {
    return word_->decide(Verdict::kCommit) || hosts_.mutant == Mutant::kCommitsWithoutTheWord;
}

absl::Status SourceAgent::send_commit() {
    phase_ = pending_ ? SourcePhase::kCommittedServed : SourcePhase::kCommitted;
    return wire_->send(kSourceEnd, {.kind = hosts_.guest.was_running ? FrameKind::kCommit
                                                                     : FrameKind::kCommitPaused,
                                    .stream = kUrgentStream});
}

absl::StatusOr<CommitAnswer> SourceAgent::await_answer(bool sent) {
    GODWIT_ASSIGN_OR_RETURN(
        const Seen seen,
        wait_for("the answer to COMMIT",
                 hosts_.world.now() + (sent ? Duration(seconds(10)) : Duration::zero()),
                 [](const Seen& s) { return s.resumed_at || s.refused; }));
    return CommitAnswer{.refused = seen.refused};
}

// --- its ends -------------------------------------------------------------------------------

absl::Status SourceAgent::give_back() {
    World& world = hosts_.world;
    return roll_back_persistently(
        {.roll_back =
             [&](Duration limit) { return qemu().roll_back(record_.was_running(), limit); },
         .now = [&] { return world.now(); },
         .pause =
             [&](Duration time) {
                 world.sleep(time);
                 return true;
             },
         .trouble = [](const absl::Status&) {}});
}

void SourceAgent::undo(const std::string& why, bool frozen) {
    word_->decide(Verdict::kAbort);
    if (frozen) give_back().IgnoreError();
    hosts_.release_kept_ram();
    if (wire_) wire_->close(kSourceEnd);
    if (prepared_)
        hosts_
            .call<bool>(
                "abort", [this] { return hosts_.destination && hosts_.destination->lives(); },
                [this]() -> absl::StatusOr<bool> {
                    // Held, for it may die meanwhile.
                    const std::shared_ptr<DestinationAgent> there = hosts_.destination;
                    GODWIT_RETURN_IF_ERROR(there->abort());
                    return true;
                })
            .IgnoreError();
    end(qemu().alive() ? v1::GUEST_AT_SOURCE : v1::GUEST_AT_NONE, Journal::Durability::kPageCache,
        why);
}

void SourceAgent::finish_at_destination() {
    at_step("resumed-seen");
    qemu().kill("the guest is at the destination");
    hosts_.release_kept_ram();
    end(v1::GUEST_AT_DESTINATION, Journal::Durability::kPageCache, "");
}

void SourceAgent::end(v1::GuestAt where, Journal::Durability durability, const std::string& why) {
    at_step("concluded");
    if (guard_) guard_->send({.kind = GuardMessageKind::kDismiss});
    record_.set_phase(v1::JOURNAL_PHASE_ENDED);
    record_.mutable_report()->set_guest_at(where);
    hosts_.source_disk.write(record_, durability).IgnoreError();
    guest_at_ = where;
    in_doubt_ = false;
    hosts_.world.say(fmt::format("source: {}: {}", v1::GuestAt_Name(where), why));
}

// --- in doubt -------------------------------------------------------------------------------

absl::StatusOr<v1::QueryResponse> SourceAgent::ask() {
    return hosts_.call<v1::QueryResponse>(
        "query", [this] { return hosts_.destination && hosts_.destination->lives(); },
        [this]() -> absl::StatusOr<v1::QueryResponse> {
            v1::QueryResponse answer = hosts_.destination->query();
            if (hosts_.mutant == Mutant::kCallsForAWholeGuestsEnd && answer.draining())
                answer.set_missing_pages(kPages);
            return answer;
        });
}

SourceCopy SourceAgent::copy_here() {
    if (record_.phase() == v1::JOURNAL_PHASE_DRAINING) return SourceCopy::kLeft;
    if (hosts_.mutant == Mutant::kEndsItsCopyForALostOne ||
        hosts_.mutant == Mutant::kForgetsItsQemusPages)
        return SourceCopy::kEnded;
    return qemu().alive() ? SourceCopy::kStands : SourceCopy::kEnded;
}

std::optional<Fate> SourceAgent::operators_word() {
    return is_draining_ ? given_up_ : operators_word_.said();
}

void SourceAgent::forget_word() {
    given_up_.reset();
    operators_word_.forget();
}

bool SourceAgent::wait(Duration limit) {
    hosts_.world.wait(limit, [this] { return operators_word_.said().has_value(); });
    return !opens_at_ || hosts_.world.now() < *opens_at_;
}

// As MigrationRegistry::note_left().
void SourceAgent::note_resumed() {
    in_doubt_ = false;
    is_there_ = true;
    record_.set_phase(v1::JOURNAL_PHASE_DRAINING);
    hosts_.source_disk.write(record_, Journal::Durability::kPageCache).IgnoreError();
    at_step("left-noted");
}

// As SourceMigration's: where its QEMU has ended here nothing is given back.
void SourceAgent::note_resolution(Fate fate) {
    if (fate == Fate::kRefused && !record_.postcopy() && !qemu().alive()) return;
    given_back_ = fate == Fate::kRefused;
    record_.set_resolution(resolution_of(fate));
    hosts_.source_disk.write(record_, Journal::Durability::kDisk).IgnoreError();
    at_step("resolution-noted");
}

void SourceAgent::settle_and_end(const std::function<void(const std::string&)>& give_back) {
    // Of a drain it is known where the guest is.
    in_doubt_ = record_.phase() == v1::JOURNAL_PHASE_FREEZING;
    const std::optional<FateAnswer> answer = settle(*this);
    in_doubt_ = false;
    end_as_said(*answer, give_back);
}

void SourceAgent::end_as_said(const FateAnswer& answer,
                              const std::function<void(const std::string&)>& give_back) {
    hosts_.world.say("source: settled: " + answer.detail);
    if (answer.fate == Fate::kRefused) return give_back(answer.detail);
    if (answer.lacks_pages) record_.mutable_report()->set_reason("pages were lost with the source");
    qemu().kill("the guest is at the destination, or was");
    hosts_.release_kept_ram();
    const bool is_gone = answer.guest_gone || answer.fate == Fate::kNowhere;
    end(is_gone ? v1::GUEST_AT_NONE : v1::GUEST_AT_DESTINATION, Journal::Durability::kPageCache,
        answer.detail);
}

// --- its API --------------------------------------------------------------------------------

void SourceAgent::cancel() {
    if (!word_ || guest_at_ || !word_->decide(Verdict::kAbort)) return;
    signals_.update([](Seen& seen) { seen.cancelled = true; });
}

// The caller has asked the destination, which does not answer.
absl::Status SourceAgent::resolve(Fate fate) {
    if (!in_doubt_ && !(fate == Fate::kNowhere && has_left()))
        return absl::FailedPreconditionError("nothing is in doubt");
    if (fate != Fate::kRefused && qemu().runs())
        return absl::FailedPreconditionError("it runs here");
    if ((is_draining_ || opens_at_) && fate == Fate::kAtDestination)
        return absl::FailedPreconditionError("the guest's last pages are still here");
    GODWIT_RETURN_IF_ERROR(operators_word_.say(fate));
    if (!is_draining_ || give_up_drain(fate)) return absl::OkStatus();
    operators_word_.forget();
    return absl::FailedPreconditionError("the drain goes on");
}

// As MigrationRegistry's.
bool SourceAgent::given_back() {
    // The first of both counts.
    const bool said = operators_word_.given_back();
    if (is_there_ || guest_at_ == v1::GUEST_AT_DESTINATION) return false;
    if (given_back_ || guest_at_ == v1::GUEST_AT_SOURCE) return true;
    return said && !guest_at_ && qemu().alive();
}

// --- a restarted agent ----------------------------------------------------------------------

// The journal is read before anybody may ask.
void SourceAgent::recover() {
    std::optional<v1::JournalRecord> record = hosts_.source_disk.read();
    if (!record) {
        // It never began, as far as anybody knows.
        guest_at_ = qemu().alive() ? v1::GUEST_AT_SOURCE : v1::GUEST_AT_NONE;
        return;
    }
    record_ = *std::move(record);
    given_back_ = record_.resolution() == v1::RESOLUTION_AT_SOURCE;
    if (record_.phase() == v1::JOURNAL_PHASE_ENDED) {
        guest_at_ = record_.report().guest_at();
        return;
    }
    hosts_.world.spawn(process_, "recovery", [self = shared_from_this()] { self->recover_one(); });
}

void SourceAgent::conclude(v1::GuestAt where, const std::string& why) {
    // Nobody may move the VM while a guard of the earlier agent may still act on it.
    hosts_.world.wait(minutes(3), [this] { return !hosts_.guard || !hosts_.guard->lives(); });
    hosts_.release_kept_ram();
    end(where, Journal::Durability::kDisk, why);
}

void SourceAgent::give_back_and_conclude(bool vm, const std::string& why) {
    if (!vm) return conclude(v1::GUEST_AT_NONE, why);
    const absl::Status back = give_back();
    conclude(back.ok() ? v1::GUEST_AT_SOURCE : v1::GUEST_AT_NONE, why);
}

void SourceAgent::recover_one() {
    const absl::StatusOr<Verdict> found_word = hosts_.source_disk.find_word();
    if (absl::StatusOr<DecisionWord> word = hosts_.source_disk.open_word(); found_word.ok())
        word_ = *std::move(word);
    const bool vm = qemu().alive();
    const auto give_it_back = [this, vm](const std::string& why) {
        give_back_and_conclude(vm, why);
    };
    if (record_.postcopy() && !vm && !hosts_.kept_ram.exists()) hosts_.pages_lost_here = true;
    // As open_last_pages(): QEMU has them too, and the file, of which a second link is made again.
    const auto has_kept_ram = [this, vm] {
        if (vm && hosts_.mutant != Mutant::kForgetsItsQemusPages) hosts_.kept_ram.link();
        return hosts_.kept_ram.exists();
    };
    switch (plan_source_recovery({.record = record_,
                                  .word = found_word,
                                  .vm = vm,
                                  .runs = [this] { return qemu().runs(); },
                                  .has_kept_ram = has_kept_ram})) {
        case SourceRecovery::kWasGivenBack:
            return conclude(v1::GUEST_AT_SOURCE, "it was given back");
        case SourceRecovery::kIsElsewhere:
            if (vm) qemu().kill("an operator said that it is at the destination");
            return conclude(v1::GUEST_AT_DESTINATION, "an operator said so");
        case SourceRecovery::kIsNowhere:
            if (vm) qemu().kill("an operator said that it is lost");
            return conclude(v1::GUEST_AT_NONE, "an operator said so");
        case SourceRecovery::kDrain:
            return recover_drain(vm);
        case SourceRecovery::kNeedsOperator:
            return hosts_.world.violated("a QEMU that was left alone");
        case SourceRecovery::kHasDied:
            return conclude(v1::GUEST_AT_NONE, "its QEMU has ended");
        case SourceRecovery::kAsk:
            return settle_and_end(give_it_back);
        case SourceRecovery::kWasNotFrozen:
            if (word_) word_->decide(Verdict::kAbort);
            return conclude(v1::GUEST_AT_SOURCE, "the agent ended before the freeze");
        case SourceRecovery::kGiveBack:
            if (word_) word_->decide(Verdict::kAbort);
            return give_it_back("the agent ended during the migration");
    }
}

}  // namespace godwit::sim
