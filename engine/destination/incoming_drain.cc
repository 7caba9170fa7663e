// IncomingMigration: its life after COMMIT while pages are missing here.
#include <fmt/format.h>

#include <utility>

#include "engine/base/log.h"
#include "engine/destination/drain_plan.h"
#include "engine/destination/incoming_migration.h"
#include "engine/destination/session_token.h"
#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

// What is in the way of the end of a drain may pass.
constexpr Duration kEndAgain = std::chrono::seconds(1);

}  // namespace

// --- a restarted agent ----------------------------------------------------------------------

absl::StatusOr<std::unique_ptr<IncomingMigration>> IncomingMigration::recover(
    v1::JournalRecord record, const std::shared_ptr<Vm>& vm, Dependencies dependencies) {
    GODWIT_ASSIGN_OR_RETURN(Journal journal,
                            Journal::open(dependencies.state_dir, record.migration_id()));
    GODWIT_ASSIGN_OR_RETURN(TcpListener listener, TcpListener::bind(dependencies.listen_host, 0));
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    GODWIT_ASSIGN_OR_RETURN(RamWriter writer, RamWriter::create({}));
    std::unique_ptr<IncomingMigration> incoming(
        new IncomingMigration(std::move(dependencies), vm, std::move(journal), std::move(listener),
                              std::move(wakeup), std::move(writer)));
    const bool committed = record.phase() == v1::JOURNAL_PHASE_CONT;
    incoming->record_ = std::move(record);
    incoming->expected_ = {.migration_id = frame_migration_id(incoming->id()),
                           // No stream of the earlier agent's is taken for one of ours.
                           .generation = random_generation(),
                           .stream_count = static_cast<uint16_t>(incoming->record_.streams() + 1),
                           .token = random_token()};
    incoming->phase_ =
        committed ? DestinationPhase::kCommittedServing : DestinationPhase::kDraining;
    incoming->state_ = committed ? v1::INCOMING_STATE_COMMITTED : v1::INCOMING_STATE_RESUMED;
    incoming->load_status_ = "completed";
    incoming->mappings_ = absl::OkStatus();
    incoming->broken_ = absl::UnavailableError("the source has not come back yet");
    vm->set_listener(
        [self = incoming.get()](const GuestEvent& event) { self->on_guest_event(event); });
    GODWIT_ASSIGN_OR_RETURN(incoming->postcopy_,
                            IncomingPostcopy::recover(*vm, incoming->journal_.missing_path()));
    incoming->watcher_ = std::jthread(
        [self = incoming.get()](const std::stop_token& stop) { self->watch_guest(stop); });
    if (committed)
        incoming->committer_ = std::jthread([self = incoming.get()](const std::stop_token& stop) {
            set_thread_name("commit");
            self->resume_until_it_runs(stop);
        });
    incoming->begin();
    return incoming;
}

// `cont` may have been carried out before the earlier agent ended; then it is no harm.
void IncomingMigration::resume_until_it_runs(const std::stop_token& stop) {
    constexpr Duration kAgain = std::chrono::seconds(1);
    constexpr Duration kLimit = std::chrono::seconds(10);
    std::string last_said;
    while (!stop.stop_requested()) {
        bool run = false;
        bool gone = false;
        {
            const std::lock_guard lock(mutex_);
            if (ending_) return;
            gone = vm_gone_;
            run = record_.was_running();
        }
        // The source waits for RESUMED, and asks once it is hung up on.
        if (gone) return end_committed();
        // The earlier agent may not have come to that.
        absl::Status status = postcopy_->check_mappings();
        if (status.ok() && run) status = vm_->resume(kLimit);
        if (status.ok()) return note_resumed();
        if (status.message() != last_said)
            spdlog::error("migration {}: the guest is here and does not run yet: {}", id(),
                          std::string(status.message()));
        last_said = std::string(status.message());
        std::unique_lock lock(mutex_);
        changed_.wait_for(lock, stop, kAgain, [this] { return vm_gone_ || ending_; });
    }
}

// CONT stands in the journal, and QEMU has ended: the guest may have run here.
void IncomingMigration::end_committed() {
    {
        const std::lock_guard lock(mutex_);
        phase_ = DestinationPhase::kDraining;
        changed_.notify_all();
    }
    break_session(absl::NotFoundError("the guest's QEMU has ended"));
}

// --- sessions -------------------------------------------------------------------------------

bool IncomingMigration::is_draining() const { return is_drain(phase()); }

v1::ReconnectResponse IncomingMigration::reconnect() {
    v1::ReconnectResponse response;
    *response.mutable_state() = state();
    if (!response.state().draining()) return response;
    break_session(absl::UnavailableError("the source comes with new streams"));
    const std::lock_guard lock(mutex_);
    expected_.token = random_token();
    ++expected_.generation;
    session_asked_ = true;
    changed_.notify_all();
    response.mutable_state()->set_state(state_);
    reconnect_said_resumed_ = state_ == v1::INCOMING_STATE_RESUMED;
    response.set_session_token(
        std::string(reinterpret_cast<const char*>(expected_.token.data()), expected_.token.size()));
    response.set_data_port(listener_.port());
    response.set_generation(expected_.generation);
    return response;
}

// Whether the source comes (again). The guest waits meanwhile where it needs a page.
bool IncomingMigration::await_next_session() {
    bool said = false;
    std::unique_lock lock(mutex_);
    while (true) {
        const DrainNext next =
            next_in_drain({.phase = phase_,
                           .source_comes = session_asked_,
                           .guest_gone = vm_gone_,
                           .complete = is_drain(phase_) && postcopy_->complete()});
        if (next == DrainNext::kGuestGone) {
            lock.unlock();
            note_guest_gone();
            return false;
        }
        if (ending_ || next == DrainNext::kOver) return false;
        if (next == DrainNext::kServe) {
            broken_ = absl::OkStatus();
            wakeup_.drain();
            return true;
        }
        if (next == DrainNext::kEnd) {
            // The source does not know yet, or it was told by an earlier agent that could not write
            // it down, and will never come.
            lock.unlock();
            const absl::Status ended = end_drain();
            if (ended.ok()) return false;
            lock.lock();
            // Mostly its QEMU has ended just now. If not, faults are served meanwhile, and nobody
            // asks for a page that is not there.
            note_unended(ended);
            changed_.wait_for(lock, kEndAgain,
                              [this] { return vm_gone_ || ending_ || session_asked_; });
            continue;
        }
        if (!std::exchange(said, true))
            spdlog::warn(
                "migration {}: the source is lost ({}); the guest waits where it needs a page",
                id(), std::string(broken_.message()));
        changed_.wait(lock);
    }
}

void IncomingMigration::note_unended(const absl::Status& why) {
    std::string text = fmt::format(
        "the last page is here and the guest runs, but its drain can't be ended yet, which is "
        "tried again each second: {}",
        std::string(why.message()));
    if (text == detail_) return;
    spdlog::error("migration {}: {}", id(), text);
    detail_ = std::move(text);
}

void IncomingMigration::note_guest_gone() {
    {
        const std::lock_guard lock(mutex_);
        record_.set_guest_gone(true);
        detail_ = "its QEMU has ended";
        phase_ = DestinationPhase::kDrained;
        state_ = v1::INCOMING_STATE_RESUMED;
    }
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_RESUMED, "its QEMU has ended");
        !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    vm_->set_listener({});
}

// What is missing first, so that the source pushes that; then faults are asked for again.
absl::Status IncomingMigration::begin_next_session(Session& session) {
    keep_cpus_awake(session);
    GODWIT_RETURN_IF_ERROR(send_missing(session));
    if (phase() == DestinationPhase::kDraining) tell_resumed();
    spdlog::info("migration {}: the source is back", id());
    postcopy_->connection_restored(*this);
    return absl::OkStatus();
}

absl::Status IncomingMigration::send_missing(Session& session) {
    GODWIT_RETURN_IF_ERROR(postcopy_->list_missing([&](std::span<const ChunkPages> list) {
        return session.writer->send(FrameKind::kMissing, encode_chunk_pages(list));
    }));
    return session.writer->send(FrameKind::kMissingEnd);
}

// --- the drain ------------------------------------------------------------------------------

absl::Status IncomingMigration::ask(BlockIndex block, PageIndex page) {
    const std::shared_ptr<Session> now = session();
    if (!now) return absl::UnavailableError("no connection to the source");
    return now->writer->send(FrameKind::kPageRequest,
                             PageRequestBody{.block = block, .page = page}.encode());
}

// `cont` may itself need a page: this thread goes on taking them in.
void IncomingMigration::commit_while_serving(bool run_guest) {
    committer_ = std::jthread([this, run_guest] {
        set_thread_name("commit");
        const absl::Status status = commit(run_guest);
        if (!status.ok()) break_session(status);
    });
}

// Once for each session.
void IncomingMigration::tell_resumed() {
    std::shared_ptr<Session> now;
    {
        const std::lock_guard lock(mutex_);
        if (resumed_told_ || !session_) return;
        resumed_told_ = true;
        now = session_;
    }
    const absl::Status told = now->writer->send(FrameKind::kResumed);
    if (!told.ok())
        spdlog::warn("migration {}: RESUMED was not sent ({}); the source will ask", id(),
                     std::string(told.message()));
}

// A push is over when all streams say so, the urgent one too.
absl::Status IncomingMigration::marker_came(Session& session) {
    {
        const std::lock_guard lock(mutex_);
        if (++markers_ < session.data.size() + 1) return absl::OkStatus();
        markers_ = 0;
    }
    if (!postcopy_->complete()) return send_missing(session);
    return finish_drain(session);
}

// The source has let go. What came page by page is put together again before anybody may move the
// VM on: that would wipe out what a tracker knows.
void IncomingMigration::settle() {
    // Nobody else has it any more.
    if (phase() == DestinationPhase::kRefused) postcopy_.reset();
    if (phase() != DestinationPhase::kDrained) return;
    run_as_others();
    if (!state().guest_gone()) {
        const Bytes bytes = postcopy_->collapse(collapsing_.get_token());
        spdlog::info("migration {}: {} are in huge pages again", id(), format_bytes(bytes));
    }
    postcopy_.reset();
    if (!state().guest_gone()) return release();
    dependencies_.on_resumed(record_.vm());
}

absl::Status IncomingMigration::finish_drain(Session& session) {
    GODWIT_RETURN_IF_ERROR(end_drain());
    std::string text;
    {
        const std::lock_guard lock(mutex_);
        text = record_.report().postcopy().SerializeAsString();
    }
    GODWIT_RETURN_IF_ERROR(
        session.writer->send(FrameKind::kDrained, std::as_bytes(std::span<const char>(text))));
    // A source that does not hang up keeps nobody: whoever comes again is told the same.
    return absl::CancelledError("the last page is here");
}

// First unregistered, then written down, then told: a successor that finds it written has no fault
// to serve.
absl::Status IncomingMigration::end_drain() {
    dependencies_.at_step(step::kLastPageCame);
    {
        const std::lock_guard lock(mutex_);
        if (vm_gone_) return absl::NotFoundError("the guest's QEMU has ended");
    }
    GODWIT_RETURN_IF_ERROR(postcopy_->finish());
    v1::Postcopy report = postcopy_->report();
    report.set_damaged_frames(damaged_in_drain_);
    report.set_destination_cpus_awake(cpus_awake_);
    {
        const std::lock_guard lock(mutex_);
        *record_.mutable_report()->mutable_postcopy() = report;
        phase_ = DestinationPhase::kDrained;
        detail_.clear();
    }
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_RESUMED, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    spdlog::info("migration {}: the last page is here; {} faults, {:.1f} ms stalled", id(),
                 report.faults(), report.stall_ms());
    vm_->set_listener({});
    dependencies_.on_settling(record_.vm());
    return absl::OkStatus();
}

}  // namespace godwit
