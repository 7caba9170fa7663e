#include "tests/sim/destination_agent.h"

#include <fmt/format.h>

#include "engine/destination/recovery_plan.h"
#include "engine/handover/step_hook.h"
#include "tests/sim/source_agent.h"

namespace godwit::sim {

void DestinationAgent::die() {
    process_->alive = false;
    if (hosts_.destination_qemu) hosts_.destination_qemu->on_event = {};
    if (!wire_) return;
    wire_->close(kDestinationEnd);
    wire_->on_frame[kDestinationEnd] = {};
    wire_->on_closed[kDestinationEnd] = {};
}

// --- before COMMIT --------------------------------------------------------------------------

void DestinationAgent::listen() {
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
    wire_ = wire;
    wire->on_frame[kDestinationEnd] = [this](const SimFrame& frame) {
        if (!process_->alive) return;
        if (frame.stream == kUrgentStream)
            urgent_.push_back(frame);
        else
            take(frame);
    };
    wire->on_closed[kDestinationEnd] = [this](const absl::Status& why) {
        if (broken_.ok()) broken_ = why;
    };
    // As IncomingMigration::prepare_cont(): to the disk, under another name.
    cont_is_prepared_ = !hosts_.destination_disk.full;
}

// The table says what may come; what is done about it is here.
void DestinationAgent::take(const SimFrame& frame) {
    const StreamKind kind = frame.stream == kUrgentStream ? StreamKind::kUrgent : StreamKind::kData;
    const std::optional<DestinationPhase> next = godwit::after(phase_, kind, frame.kind);
    if (!next) {
        broken_ = absl::InvalidArgumentError(
            fmt::format("{} while {}", frame_kind_name(frame.kind), phase_name(phase_)));
        return wire_->close(kDestinationEnd);
    }
    phase_ = *next;
    switch (frame.kind) {
        case FrameKind::kPages:
            qemu().memory()[frame.page] = frame.version;
            break;
        case FrameKind::kMarker:
            wire_
                ->send(kDestinationEnd, {.kind = FrameKind::kMarkerAck,
                                         .stream = kUrgentStream,
                                         .page = frame.stream,
                                         .round = frame.round})
                .IgnoreError();
            break;
        case FrameKind::kDeviceStateEnd:
            qemu().device_state_came();
            if (hosts_.mutant == Mutant::kRunsAtLoad) qemu().cont(seconds(10)).IgnoreError();
            break;
        case FrameKind::kCommit:
        case FrameKind::kCommitPaused:
            commit(frame.kind == FrameKind::kCommit);
            break;
        default:
            break;
    }
}

// Until the streams end, or COMMIT came.
void DestinationAgent::run() {
    bool told = false;
    if (!hosts_.world.wait(seconds(30), [this] { return wire_ || !broken_.ok(); }))
        broken_ = absl::DeadlineExceededError("the source did not come");
    while (broken_.ok() && state_ == v1::INCOMING_STATE_WAITING) {
        hosts_.world.wait(MonotonicTime::max(), [&] {
            return !broken_.ok() || !urgent_.empty() || (load_status_ && !told) || gone_;
        });
        if (load_status_ && !told) {
            told = true;
            const bool well = *load_status_ == "completed";
            at_step(step::kLoadDone);
            wire_
                ->send(kDestinationEnd, {.kind = well ? FrameKind::kLoaded : FrameKind::kLoadFailed,
                                         .stream = kUrgentStream,
                                         .text = *load_status_})
                .IgnoreError();
        } else if (!urgent_.empty()) {
            const SimFrame frame = urgent_.front();
            urgent_.pop_front();
            take(frame);
        } else if (gone_) {
            // The source hears it, and aborts.
            wire_
                ->send(kDestinationEnd, {.kind = FrameKind::kLoadFailed,
                                         .stream = kUrgentStream,
                                         .text = "its QEMU has ended"})
                .IgnoreError();
            hosts_.world.wait(MonotonicTime::max(),
                              [&] { return !broken_.ok() || !urgent_.empty(); });
            gone_ = gone_ && !urgent_.empty();
        }
    }
    if (state_ == v1::INCOMING_STATE_WAITING) refuse(std::string(broken_.message()));
    ended_ = true;
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
    if (!broken_.ok()) return;
    if (load_status_ != "completed") {
        broken_ = absl::FailedPreconditionError("COMMIT before the device state was loaded");
        return wire_->close(kDestinationEnd);
    }
    state_ = v1::INCOMING_STATE_COMMITTED;
    record_.set_was_running(run_guest);
    const absl::StatusOr<CommitHere> end = commit_here(*this, run_guest);
    if (!end.ok() || *end == CommitHere::kRefused) return wire_->close(kDestinationEnd);
    at_step(step::kContDone);
    note_resumed();
}

void DestinationAgent::note_resumed() {
    state_ = v1::INCOMING_STATE_RESUMED;
    phase_ = DestinationPhase::kResumed;
    wire_->send(kDestinationEnd, {.kind = FrameKind::kResumed, .stream = kUrgentStream})
        .IgnoreError();
    at_step(step::kResumedSent);
    note(v1::JOURNAL_PHASE_RESUMED, "").IgnoreError();
}

absl::Status DestinationAgent::note(v1::JournalPhase phase, const std::string& detail) {
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
    if (hosts_.mutant != Mutant::kRefusesWithQemuAlive) qemu().kill("it never ran here");
    hosts_.world.step("killed");
    return absl::OkStatus();
}

void DestinationAgent::now_refused(const std::string& why) {
    end(v1::INCOMING_STATE_REFUSED, why);
    phase_ = DestinationPhase::kRefused;
}

absl::Status DestinationAgent::tell_refused(const std::string& why) {
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
    switch (plan_destination_recovery(found)) {
        case DestinationRecovery::kAnswer:
            return end(record.phase() == v1::JOURNAL_PHASE_REFUSED ? v1::INCOMING_STATE_REFUSED
                                                                   : v1::INCOMING_STATE_RESUMED,
                       record.detail());
        case DestinationRecovery::kNoAnswer:
            return hosts_.world.say("destination: nobody knows enough to answer");
        case DestinationRecovery::kEndStale:
            if (vm) qemu().kill("its copy is stale");
            return settle(record, v1::JOURNAL_PHASE_REFUSED, "it will never run here");
        case DestinationRecovery::kGuestGone:
            record.set_guest_gone(true);
            return settle(record, v1::JOURNAL_PHASE_RESUMED, "its QEMU ended after COMMIT");
        case DestinationRecovery::kArrived:
            return settle(record, v1::JOURNAL_PHASE_RESUMED, "paused, as it was at the source");
        case DestinationRecovery::kDrain:
            return hosts_.world.violated("a drain, where all pages came in the pause");
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
