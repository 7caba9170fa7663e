#include "tests/sim/destination_agent.h"

#include <fmt/format.h>

#include "engine/destination/recovery_plan.h"
#include "engine/handover/step_hook.h"
#include "tests/sim/source_agent.h"

namespace godwit::sim {

void DestinationAgent::die() {
    process_->alive = false;
    if (hosts_.destination_qemu) {
        hosts_.destination_qemu->on_event = {};
        hosts_.destination_qemu->on_fault = {};
    }
    for (const std::shared_ptr<Wire>& wire : {wire_, next_wire_}) {
        if (!wire) continue;
        wire->close(kDestinationEnd);
        wire->on_frame[kDestinationEnd] = {};
        wire->on_closed[kDestinationEnd] = {};
    }
}

// --- before COMMIT --------------------------------------------------------------------------

void DestinationAgent::listen() {
    gone_ = !qemu().alive();
    qemu().on_event = [this](const std::string& event) {
        if (event == "gone") gone_ = true;
        if (event == "resume") ran_here_ = true;
        if (!load_status_ && event != "resume") load_status_ = event;
    };
}

absl::Status DestinationAgent::prepare() {
    if (hosts_.prepared || hosts_.destination_disk.read())
        return absl::AlreadyExistsError("the migration was here before");
    hosts_.prepared = true;
    record_.set_migration_id("m-0");
    record_.set_role(v1::ROLE_DESTINATION);
    record_.set_vm("web");
    record_.set_boot_id(std::to_string(hosts_.destination_boot));
    record_.set_vm_incarnation("1");
    GODWIT_RETURN_IF_ERROR(hosts_.destination_disk.write(record_, Journal::Durability::kPageCache));
    hosts_.destination_qemu = std::make_shared<Qemu>(
        hosts_.world, hosts_.guest, "destination's QEMU", true, Qemu::State::kInMigrate);
    listen();
    state_ = v1::INCOMING_STATE_WAITING;
    hosts_.world.spawn(process_, "incoming", [self = shared_from_this()] { self->run(); });
    return absl::OkStatus();
}

void DestinationAgent::accept(const std::shared_ptr<Wire>& wire) {
    if (state_ != v1::INCOMING_STATE_WAITING && !is_draining()) return wire->close(kDestinationEnd);
    (is_draining() ? next_wire_ : wire_) = wire;
    next_frames_.clear();
    next_broken_ = absl::OkStatus();
    wire->on_frame[kDestinationEnd] = [this, it = wire.get()](const SimFrame& frame) {
        if (!process_->alive) return;
        if (it != wire_.get())
            next_frames_.push_back(frame);
        else if (frame.stream == kUrgentStream)
            urgent_.push_back(frame);
        else if (is_draining())
            data_.push_back(frame);
        else
            take(frame);
    };
    wire->on_closed[kDestinationEnd] = [this, it = wire.get()](const absl::Status& why) {
        absl::Status& broken = it == wire_.get() ? broken_ : next_broken_;
        if (broken.ok()) broken = why;
    };
    // As IncomingMigration::prepare_cont(): to the disk, under another name.
    if (is_draining()) return;
    hosts_.destination_disk.sync();
    cont_is_prepared_ = !hosts_.destination_disk.full;
}

void DestinationAgent::break_session(const absl::Status& why) {
    if (broken_.ok()) broken_ = why;
    if (wire_) wire_->close(kDestinationEnd);
}

// A connection that is lost is noticed without it.
void DestinationAgent::send(SimFrame frame) {
    if (wire_) wire_->send(kDestinationEnd, std::move(frame)).IgnoreError();
}

// The table says what may come; what is done about it is here.
void DestinationAgent::take(const SimFrame& frame) {
    const StreamKind kind = frame.stream == kUrgentStream ? StreamKind::kUrgent : StreamKind::kData;
    const std::optional<DestinationPhase> next = godwit::after(phase_, kind, frame.kind);
    if (!next) {
        return break_session(absl::InvalidArgumentError(
            fmt::format("{} while {}", frame_kind_name(frame.kind), phase_name(phase_))));
    }
    phase_ = *next;
    switch (frame.kind) {
        case FrameKind::kPages:
            if (phase_ == DestinationPhase::kDraining) return place(frame);
            qemu().write_page(frame.page, frame.version);
            break;
        case FrameKind::kMarker:
            if (phase_ == DestinationPhase::kDraining) return marker_came();
            send({.kind = FrameKind::kMarkerAck,
                  .stream = kUrgentStream,
                  .page = frame.stream,
                  .round = frame.round});
            break;
        case FrameKind::kDeviceStateEnd:
            qemu().device_state_came();
            if (hosts_.mutant == Mutant::kRunsAtLoad) qemu().cont(seconds(10)).IgnoreError();
            break;
        case FrameKind::kCommit:
        case FrameKind::kCommitPaused: {
            const bool run = frame.kind == FrameKind::kCommit;
            if (phase_ == DestinationPhase::kCommitted) return commit(run);
            // `cont` may itself need a page: this thread goes on taking them in.
            hosts_.world.spawn(process_, "commit",
                               [self = shared_from_this(), run] { self->commit(run); });
            break;
        }
        default:
            take_postcopy(frame);
    }
}

void DestinationAgent::run() {
    serve_first_session();
    while (await_next_session()) serve_session();
    if (state_ == v1::INCOMING_STATE_WAITING) refuse(std::string(broken_.message()));
    ended_ = true;
}

// Until the streams end, or COMMIT came and every page is here.
void DestinationAgent::serve_first_session() {
    bool told = false;
    if (!hosts_.world.wait(seconds(30), [this] { return wire_ || !broken_.ok(); }))
        broken_ = absl::DeadlineExceededError("the source did not come");
    while (broken_.ok() && state_ == v1::INCOMING_STATE_WAITING && !is_draining()) {
        hosts_.world.wait(MonotonicTime::max(), [&] {
            return !broken_.ok() || !urgent_.empty() || (load_status_ && !told) || gone_;
        });
        if (load_status_ && !told) {
            told = true;
            const bool well = *load_status_ == "completed";
            at_step(step::kLoadDone);
            send({.kind = well ? FrameKind::kLoaded : FrameKind::kLoadFailed,
                  .stream = kUrgentStream,
                  .text = *load_status_});
        } else if (!urgent_.empty()) {
            const SimFrame frame = urgent_.front();
            urgent_.pop_front();
            take(frame);
        } else if (gone_) {
            // The source hears it, and aborts.
            send({.kind = FrameKind::kLoadFailed,
                  .stream = kUrgentStream,
                  .text = "its QEMU has ended"});
            hosts_.world.wait(MonotonicTime::max(),
                              [&] { return !broken_.ok() || !urgent_.empty(); });
            gone_ = gone_ && !urgent_.empty();
        }
    }
    if (broken_.ok() && is_draining()) serve_session();
}

absl::Status DestinationAgent::abort() {
    if (state_ == v1::INCOMING_STATE_UNKNOWN) return absl::OkStatus();
    if (state_ == v1::INCOMING_STATE_COMMITTED || state_ == v1::INCOMING_STATE_RESUMED)
        return absl::FailedPreconditionError("COMMIT has come: the guest is here");
    if (broken_.ok()) broken_ = absl::AbortedError("the source aborts");
    if (wire_) wire_->close(kDestinationEnd);
    hosts_.world.wait(MonotonicTime::max(), [this] {
        return !process_->alive || ended_ || state_ != v1::INCOMING_STATE_WAITING;
    });
    return absl::OkStatus();
}

// --- from COMMIT on -------------------------------------------------------------------------

void DestinationAgent::commit(bool run_guest) {
    at_step(step::kCommitCame);
    absl::Status not_now = broken_;  // an abort, or the end of the streams, came first
    if (not_now.ok() && load_status_ != "completed")
        not_now = absl::FailedPreconditionError("COMMIT before the device state was loaded");
    if (!not_now.ok()) {
        // Refused by whoever waits for the drain of a guest that never ran here.
        if (phase_ == DestinationPhase::kCommittedServing) phase_ = DestinationPhase::kServing;
        return break_session(not_now);
    }
    state_ = v1::INCOMING_STATE_COMMITTED;
    record_.set_was_running(run_guest);
    const absl::StatusOr<CommitHere> end = commit_here(*this, run_guest);
    if (!end.ok() || *end == CommitHere::kRefused)
        return break_session(absl::AbortedError("it never ran here"));
    at_step(step::kContDone);
    note_resumed();
}

// The guest is here; whether all of its pages are is another matter.
void DestinationAgent::note_resumed() {
    const bool all_pages = phase_ != DestinationPhase::kCommittedServing;
    state_ = v1::INCOMING_STATE_RESUMED;
    detail_.clear();
    phase_ = all_pages ? DestinationPhase::kResumed : DestinationPhase::kDraining;
    tell_resumed();
    at_step(step::kResumedSent);
    note(all_pages ? v1::JOURNAL_PHASE_RESUMED : v1::JOURNAL_PHASE_DRAINING, "").IgnoreError();
}

// Once for each connection.
void DestinationAgent::tell_resumed() {
    if (is_resumed_told_ || !wire_) return;
    is_resumed_told_ = true;
    send({.kind = FrameKind::kResumed, .stream = kUrgentStream});
}

absl::Status DestinationAgent::note(v1::JournalPhase phase, const std::string& detail) {
    // The last page may come before the first page of the drain was noted.
    if (phase == v1::JOURNAL_PHASE_DRAINING && record_.phase() == v1::JOURNAL_PHASE_RESUMED)
        return absl::OkStatus();
    record_.set_phase(phase);
    record_.set_detail(detail);
    absl::Status status =
        hosts_.destination_disk.write(record_, Journal::Durability::kPageCache,
                                      phase == v1::JOURNAL_PHASE_CONT && cont_is_prepared_);
    if (!status.ok() && phase == v1::JOURNAL_PHASE_LIVE)
        status = hosts_.destination_disk.take_back();
    hosts_.world.step("journal");
    return status;
}

bool DestinationAgent::wait_to_ask_again() {
    hosts_.world.sleep(milliseconds(100));
    return true;
}

absl::Status DestinationAgent::kill() {
    qemu().on_event = {};
    if (hosts_.mutant != Mutant::kRefusesWithQemuAlive) qemu().kill("it never ran here");
    hosts_.world.step("killed");
    return absl::OkStatus();
}

void DestinationAgent::now_refused(const std::string& why) {
    end(v1::INCOMING_STATE_REFUSED, why);
    phase_ = DestinationPhase::kRefused;
}

absl::Status DestinationAgent::tell_refused(const std::string& why) {
    if (!wire_) return absl::OkStatus();  // the source will ask
    return wire_->send(kDestinationEnd,
                       {.kind = FrameKind::kRefused, .stream = kUrgentStream, .text = why});
}

void DestinationAgent::refuse(const std::string& why) {
    hosts_.world.say("destination: ended here: " + why);
    refuse_here(*this, why);
}

void DestinationAgent::end(v1::IncomingState state, const std::string& detail) {
    state_ = state;
    detail_ = detail;
    hosts_.world.say("destination: " + v1::IncomingState_Name(state) + ": " + detail);
}

v1::QueryResponse DestinationAgent::query() const {
    v1::QueryResponse response;
    response.set_state(state_);
    response.set_detail(detail_);
    response.set_guest_gone(record_.guest_gone());
    response.set_draining(is_draining());
    if (is_draining()) response.set_missing_pages(missing_->count());
    return response;
}

// --- a restarted agent ----------------------------------------------------------------------

void DestinationAgent::recover() {
    recovering_ = true;
    hosts_.world.spawn(process_, "recovery", [self = shared_from_this()] {
        if (std::optional<v1::JournalRecord> record = self->hosts_.destination_disk.read())
            self->recover_one(*std::move(record));
        self->recovering_ = false;
    });
}

bool DestinationAgent::was_given_back() {
    const auto is_up = [this] { return hosts_.source && hosts_.source->lives(); };
    // Agents that were restarted together are there soon.
    hosts_.world.wait(seconds(2), is_up);
    const absl::StatusOr<bool> answer =
        hosts_.call<bool>("given-back", is_up,
                          [this]() -> absl::StatusOr<bool> { return hosts_.source->given_back(); });
    hosts_.world.say(fmt::format("destination: the source says: {}", !answer.ok() ? "nothing"
                                                                     : *answer    ? "given back"
                                                                               : "not given back"));
    return answer.ok() && *answer && !qemu().runs();
}

void DestinationAgent::recover_one(v1::JournalRecord record) {
    const bool vm = hosts_.destination_qemu && qemu().alive();
    FoundAtDestination found{.record = record,
                             .boot_id = std::to_string(hosts_.destination_boot),
                             .has_vm = [vm] { return vm; },
                             .left_alone = [] { return false; },
                             .given_back = [this] { return was_given_back(); }};
    record_ = record;
    if (hosts_.mutant == Mutant::kAnswersRefusedAfterAReboot) found.boot_id = record.boot_id();
    if (hosts_.mutant == Mutant::kRunsAStaleCopy && vm &&
        record.phase() == v1::JOURNAL_PHASE_LIVE) {
        record.set_was_running(true);
        record.set_phase(v1::JOURNAL_PHASE_CONT);
    }
    DestinationRecovery plan = plan_destination_recovery(found);
    if (hosts_.mutant == Mutant::kRunsWithoutItsPages && plan == DestinationRecovery::kDrain)
        plan = DestinationRecovery::kResume;
    switch (plan) {
        case DestinationRecovery::kAnswer:
            return end(record.phase() == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                                                   : v1::INCOMING_STATE_RESUMED,
                       record.detail());
        case DestinationRecovery::kNoAnswer:
            return hosts_.world.say("destination: nobody knows enough to answer");
        case DestinationRecovery::kWasLost:
            record_.set_guest_gone(true);
            return hosts_.world.say("destination: it is not here any more");
        case DestinationRecovery::kEndStale:
            if (vm) qemu().kill("its copy is stale");
            return settle(record, v1::JOURNAL_PHASE_REFUSED, "it will never run here");
        case DestinationRecovery::kGuestGone:
            record.set_guest_gone(true);
            return settle(record, v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
        case DestinationRecovery::kArrived:
            return settle(record, v1::JOURNAL_PHASE_RESUMED, "paused, as it was at the source");
        case DestinationRecovery::kDrain:
            return recover_drain();
        case DestinationRecovery::kResume:
            break;
    }
    recovering_ = false;
    end(v1::INCOMING_STATE_COMMITTED, "being resumed by a restarted agent");
    const absl::Status resumed = resume_until_it_runs([this] { return qemu().cont(seconds(10)); },
                                                      [this] {
                                                          hosts_.world.sleep(seconds(1));
                                                          return true;
                                                      },
                                                      [](const absl::Status&) {});
    record.set_guest_gone(!resumed.ok());
    settle(record, v1::JOURNAL_PHASE_RESUMED, "resumed by a restarted agent");
}

void DestinationAgent::settle(v1::JournalRecord record, v1::JournalPhase phase,
                              const std::string& detail) {
    record.set_phase(phase);
    record.set_detail(detail);
    hosts_.destination_disk.write(record, Journal::Durability::kDisk).IgnoreError();
    hosts_.world.step("settled");
    record_ = record;
    end(phase == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                           : v1::INCOMING_STATE_RESUMED,
        detail);
}

}  // namespace godwit::sim
