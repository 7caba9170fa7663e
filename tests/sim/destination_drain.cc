// DestinationAgent: its life while pages are missing here.
#include <fmt/format.h>

#include <utility>

#include "engine/handover/step_hook.h"
#include "tests/sim/destination_agent.h"
#include "transport/frame/bodies.h"

namespace godwit::sim {

// --- before COMMIT --------------------------------------------------------------------------

absl::Status DestinationAgent::arm() {
    if (hosts_.destination_disk.full)
        return absl::ResourceExhaustedError("no room for the file of missing pages");
    GODWIT_ASSIGN_OR_RETURN(const std::string path, hosts_.destination_disk.missing_path());
    GODWIT_ASSIGN_OR_RETURN(MissingPages missing,
                            MissingPages::create(path, hosts_.kept_ram.blocks()));
    missing_.emplace(std::move(missing));
    qemu().catch_faults();
    serve_faults();
    phase_ = DestinationPhase::kArmed;
    cont_is_prepared_ = !hosts_.destination_disk.full;
    at_step(step::kArmed);
    send({.kind = FrameKind::kPostcopyReady, .stream = kUrgentStream});
    return absl::OkStatus();
}

void DestinationAgent::take_postcopy(const SimFrame& frame) {
    switch (frame.kind) {
        case FrameKind::kPostcopyBegin:
            if (const absl::Status armed = arm(); !armed.ok()) break_session(armed);
            return;
        case FrameKind::kPunch:
            if (hosts_.mutant != Mutant::kForgetsAStalePage || !hosts_.world.chance(10))
                missing_->set(0, 0, mask_of(frame.page));
            return qemu().punch(frame.page);
        case FrameKind::kPostcopyOff:
            return qemu().let_faults_be();
        case FrameKind::kPostcopyFinal:
            record_.set_postcopy(true);
            asks_ = true;
            return at_step(step::kServing);
        case FrameKind::kFaultPages:
        case FrameKind::kPrepagedPages:
            return place(frame);
        default:
            return;
    }
}

// --- pages ----------------------------------------------------------------------------------

void DestinationAgent::serve_faults() {
    qemu().on_fault = [this](int page) { fault(page); };
}

// As FaultServer's.
void DestinationAgent::fault(int page) {
    if (!missing_->test(0, static_cast<PageIndex>(page))) return qemu().fill_page(page, 0);
    if (!asks_ || !asked_.insert(page).second) return;
    send({.kind = FrameKind::kPageRequest, .stream = kUrgentStream, .page = page});
}

// What is not missing is dropped; an agent that dies between the page and the note finds the page.
void DestinationAgent::place(const SimFrame& frame) {
    if (!frame.intact) return;  // it stays missing, and is listed as such
    for (const PageCopy& copy : frame.pages) {
        const bool is_missing = missing_->test(0, static_cast<PageIndex>(copy.page));
        if (hosts_.mutant == Mutant::kOverwritesInTheDrain && !qemu().misses(copy.page))
            qemu().write_page(copy.page, copy.version);
        if (!is_missing) continue;
        if (!qemu().alive()) return break_session(absl::NotFoundError("its QEMU has ended"));
        if (hosts_.mutant == Mutant::kTicksOffTooEarly) {
            missing_->clear(0, 0, mask_of(copy.page));
            at_step("page-comes");
        }
        qemu().fill_page(copy.page, copy.version);
        at_step("page-is-there");
        missing_->clear(0, 0, mask_of(copy.page));
    }
}

void DestinationAgent::send_missing() {
    std::vector<ChunkPages> list;
    missing_->for_each_chunk([&](BlockIndex block, ChunkIndex chunk, const ChunkMask& pages) {
        list.push_back({.block = block, .chunk = chunk, .pages = pages});
    });
    if (!list.empty()) {
        const FrameBytes bytes = encode_chunk_pages(list);
        send({.kind = FrameKind::kMissing,
              .stream = kUrgentStream,
              .text = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size())});
    }
    send({.kind = FrameKind::kMissingEnd, .stream = kUrgentStream});
}

// A push is over when all streams say so, the urgent one too.
void DestinationAgent::marker_came() {
    if (++markers_ < kDataStreams + 1) return;
    markers_ = 0;
    if (missing_->count() > 0 && hosts_.mutant != Mutant::kTrustsTheLastMarker)
        return send_missing();
    if (!end_drain()) return;
    send({.kind = FrameKind::kDrained, .stream = kUrgentStream});
    break_session(absl::CancelledError("the last page is here"));
}

// First faults are let be, then it is written down, then told.
bool DestinationAgent::end_drain() {
    at_step(step::kLastPageCame);
    if (gone_) {
        break_session(absl::NotFoundError("its QEMU has ended"));
        return false;
    }
    qemu().let_faults_be();
    phase_ = DestinationPhase::kDrained;
    note(v1::JOURNAL_PHASE_RESUMED, "").IgnoreError();
    return true;
}

// --- connections ----------------------------------------------------------------------------

v1::QueryResponse DestinationAgent::reconnect() {
    if (!is_draining()) return query();
    break_session(absl::UnavailableError("the source comes with a new connection"));
    // It came too late, with a token that is worth nothing any more.
    if (next_wire_) next_wire_->close(kDestinationEnd);
    next_wire_.reset();
    is_session_asked_ = true;
    reconnect_said_resumed_ = state_ == v1::INCOMING_STATE_RESUMED;
    return query();
}

// Whether the source comes (again). The guest waits meanwhile where it needs a page.
bool DestinationAgent::await_next_session() {
    const auto next = [this] {
        return next_in_drain({.phase = phase_,
                              .source_comes = is_session_asked_,
                              .guest_gone = gone_,
                              .complete = is_draining() && missing_->count() == 0});
    };
    hosts_.world.wait(MonotonicTime::max(), [&] { return next() != DrainNext::kWait; });
    switch (next()) {
        case DrainNext::kServe:
            broken_ = absl::OkStatus();
            return true;
        case DrainNext::kEnd:
            if (end_drain()) return false;
            [[fallthrough]];  // its QEMU has ended meanwhile
        case DrainNext::kGuestGone:
            record_.set_guest_gone(true);
            phase_ = DestinationPhase::kDrained;
            end(v1::INCOMING_STATE_RESUMED, "its QEMU has ended");
            note(v1::JOURNAL_PHASE_RESUMED, "its QEMU has ended").IgnoreError();
            return false;
        default:
            return false;
    }
}

// What is missing first, so that the source pushes that; then faults are asked for again.
void DestinationAgent::begin_next_session() {
    is_session_asked_ = false;
    is_resumed_told_ = reconnect_said_resumed_;
    markers_ = 0;
    urgent_.clear();
    data_.clear();
    wire_.reset();
    if (!hosts_.world.wait(seconds(15), [this] { return next_wire_ || !broken_.ok(); }))
        return break_session(absl::DeadlineExceededError("the source did not come"));
    if (!broken_.ok()) return;
    wire_ = std::exchange(next_wire_, nullptr);
    broken_ = next_broken_;
    for (SimFrame& frame : std::exchange(next_frames_, {}))
        (frame.stream == kUrgentStream ? urgent_ : data_).push_back(std::move(frame));
    at_step(step::kStreamsAccepted);
    send_missing();
    if (phase_ == DestinationPhase::kDraining) tell_resumed();
    asks_ = true;
    asked_.clear();
    qemu().wake_all();
}

void DestinationAgent::receive_pages() {
    while (true) {
        hosts_.world.wait(MonotonicTime::max(),
                          [this] { return !broken_.ok() || !is_draining() || !data_.empty(); });
        if (!broken_.ok() || !is_draining()) break;
        const SimFrame frame = data_.front();
        data_.pop_front();
        take(frame);
    }
    --receivers_;
}

// Until the connection ends.
void DestinationAgent::serve_session() {
    if (is_session_asked_) begin_next_session();
    ++receivers_;
    hosts_.world.spawn(process_, "receiver",
                       [self = shared_from_this()] { self->receive_pages(); });
    const auto tells_end = [this] { return gone_ && phase_ == DestinationPhase::kDraining; };
    while (broken_.ok() && is_draining()) {
        hosts_.world.wait(MonotonicTime::max(), [&] {
            return !broken_.ok() || !is_draining() || !urgent_.empty() || tells_end();
        });
        if (!broken_.ok() || !is_draining()) break;
        if (tells_end()) {
            send({.kind = FrameKind::kGuestGone,
                  .stream = kUrgentStream,
                  .text = "its QEMU has ended"});
            break_session(absl::NotFoundError("its QEMU has ended"));
        } else {
            const SimFrame frame = urgent_.front();
            urgent_.pop_front();
            take(frame);
        }
    }
    break_session(absl::CancelledError("it is over"));
    asks_ = false;
    hosts_.world.wait(MonotonicTime::max(), [this] { return receivers_ == 0; });
    wire_.reset();
}

// --- a restarted agent ----------------------------------------------------------------------

// As IncomingMigration::recover().
void DestinationAgent::recover_drain() {
    const absl::StatusOr<std::string> path = hosts_.destination_disk.missing_path();
    if (!path.ok()) return hosts_.world.violated(std::string(path.status().message()));
    absl::StatusOr<MissingPages> missing = MissingPages::open(*path, hosts_.kept_ram.blocks());
    if (!missing.ok()) return hosts_.world.violated(std::string(missing.status().message()));
    missing_.emplace(*std::move(missing));
    const bool committed = record_.phase() == v1::JOURNAL_PHASE_CONT;
    phase_ = committed ? DestinationPhase::kCommittedServing : DestinationPhase::kDraining;
    state_ = committed ? v1::INCOMING_STATE_COMMITTED : v1::INCOMING_STATE_RESUMED;
    load_status_ = "completed";
    broken_ = absl::UnavailableError("the source has not come back yet");
    listen();
    qemu().catch_faults();
    serve_faults();
    recovering_ = false;
    if (committed)
        hosts_.world.spawn(process_, "commit",
                           [self = shared_from_this()] { self->resume_in_drain(); });
    while (await_next_session()) serve_session();
    ended_ = true;
}

// `cont` may have been carried out before the earlier agent ended; then it is no harm.
void DestinationAgent::resume_in_drain() {
    while (true) {
        if (gone_) {
            phase_ = DestinationPhase::kDraining;
            return break_session(absl::NotFoundError("its QEMU has ended"));
        }
        absl::Status status;
        if (record_.was_running()) status = qemu().cont(seconds(10));
        if (status.ok()) return note_resumed();
        hosts_.world.sleep(seconds(1));
    }
}

}  // namespace godwit::sim
