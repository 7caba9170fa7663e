#include "engine/destination/incoming_migration.h"

#include <fmt/format.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "engine/base/boot_id.h"
#include "engine/base/log.h"
#include "engine/destination/drain_plan.h"
#include "engine/destination/session_token.h"
#include "engine/postcopy/postcopy_problems.h"
#include "engine/postcopy/realtime.h"

namespace godwit {
namespace {

// The source connects as soon as it has the answer to Prepare.
constexpr Duration kAcceptLimit = std::chrono::seconds(15);
constexpr Duration kEndOfQemuLimit = std::chrono::seconds(10);
// How often the guest's faults are looked at, and how long one may wait before it is said.
constexpr Duration kLook = std::chrono::seconds(1);
constexpr Duration kStallWorthSaying = std::chrono::seconds(3);

}  // namespace

void IncomingMigration::Session::shutdown() const {
    for (const AcceptedStream& stream : data) stream.channel->shutdown();
    if (urgent.channel) urgent.channel->shutdown();
}

absl::StatusOr<std::unique_ptr<IncomingMigration>> IncomingMigration::start(
    const v1::PrepareRequest& request, Dependencies dependencies) {
    GODWIT_ASSIGN_OR_RETURN(Journal journal,
                            Journal::open(dependencies.state_dir, request.migration_id()));
    GODWIT_ASSIGN_OR_RETURN(TcpListener listener, TcpListener::bind(dependencies.listen_host, 0));
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    v1::JournalRecord record;
    record.set_boot_id(boot_id());
    record.set_migration_id(request.migration_id());
    record.set_role(v1::ROLE_DESTINATION);
    record.set_vm(request.spec().name());
    record.set_peer(request.source());
    record.set_streams(request.streams());
    record.set_vm_definition(request.spec().domain_definition_xml());
    GODWIT_RETURN_IF_ERROR(journal.write(record, Journal::Durability::kPageCache));

    std::shared_ptr<Vm> vm;
    // A record that stayed LIVE would have a later agent kill whatever VM has this name then.
    const auto clean_up = [&](const absl::Status& cause) {
        if (vm) {
            if (!vm->kill(kEndOfQemuLimit).ok()) return cause;
            dependencies.hypervisor->forget(*vm).IgnoreError();
        }
        record.set_phase(v1::JOURNAL_PHASE_REFUSED);
        record.set_detail(std::string(cause.message()));
        if (const absl::Status status = journal.write(record, Journal::Durability::kPageCache);
            !status.ok())
            spdlog::error("migration {}: {}", record.migration_id(), std::string(status.message()));
        return cause;
    };
    absl::StatusOr<std::shared_ptr<Vm>> started =
        dependencies.hypervisor->start(request.spec(), StartMode::kIncoming);
    // Whether it has started nobody knows: where the agent ends before it hears, the record has its
    // successor look.
    if (absl::IsDeadlineExceeded(started.status())) return started.status();
    if (!started.ok()) return clean_up(started.status());
    vm = *std::move(started);
    record.set_vm_incarnation(vm->incarnation());
    if (const absl::Status status = journal.write(record, Journal::Durability::kPageCache);
        !status.ok())
        return clean_up(status);
    absl::StatusOr<RamWriter> writer = RamWriter::create(vm->ram_blocks());
    if (!writer.ok()) return clean_up(writer.status());
    std::array<int, 2> pair{};
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0)
        return clean_up(errno_status(errno, "socketpair for device state"));
    UniqueFd for_guest(pair[1]);
    auto device_state = DeviceStatePipe::create(UniqueFd(pair[0]));
    if (!device_state.ok()) return clean_up(device_state.status());

    std::unique_ptr<IncomingMigration> incoming(
        new IncomingMigration(std::move(dependencies), vm, std::move(journal), std::move(listener),
                              std::move(wakeup), std::move(*writer)));
    incoming->record_ = record;
    incoming->device_state_ = *std::move(device_state);
    incoming->expected_ = {.migration_id = frame_migration_id(request.migration_id()),
                           .stream_count = static_cast<uint16_t>(request.streams() + 1),
                           .token = random_token()};
    vm->set_listener(
        [self = incoming.get()](const GuestEvent& event) { self->on_guest_event(event); });
    incoming->dependencies_.at_step(step::kIncoming);
    absl::Status status = incoming->prepare_postcopy(request.postcopy());
    if (status.ok()) status = vm->begin_device_load(std::move(for_guest));
    if (!status.ok()) {
        incoming->refuse(status);
        return status;
    }
    incoming->begin();
    return incoming;
}

absl::Status IncomingMigration::prepare_postcopy(v1::PostcopyUse use) {
    if (use == v1::POSTCOPY_USE_NEVER) {
        postcopy_problem_ = "it was not asked for";
        return absl::OkStatus();
    }
    absl::StatusOr<std::unique_ptr<IncomingPostcopy>> postcopy =
        IncomingPostcopy::attach(*vm_, journal_.missing_path());
    if (postcopy.ok()) {
        postcopy_ = *std::move(postcopy);
        return absl::OkStatus();
    }
    postcopy_problem_ = std::string(postcopy.status().message());
    if (use == v1::POSTCOPY_USE_IF_POSSIBLE) return absl::OkStatus();
    return annotate(postcopy.status(), "Post-copy can't be done here");
}

void IncomingMigration::begin() {
    main_ = std::jthread([this] {
        set_thread_name("incoming");
        run_realtime();
        run();
    });
}

IncomingMigration::IncomingMigration(Dependencies dependencies, std::shared_ptr<Vm> vm,
                                     Journal journal, TcpListener listener, Wakeup wakeup,
                                     RamWriter writer)
    : dependencies_(std::move(dependencies)),
      vm_(std::move(vm)),
      journal_(std::move(journal)),
      listener_(std::move(listener)),
      wakeup_(std::move(wakeup)),
      writer_(std::move(writer)) {
    for (const RamBlock& block : vm_->ram_blocks()) chunk_counts_.push_back(block.chunk_count());
}

IncomingMigration::~IncomingMigration() {
    if (main_.joinable()) {
        {
            const std::lock_guard lock(mutex_);
            ending_ = true;
            changed_.notify_all();
        }
        collapsing_.request_stop();
        if (is_draining())
            break_session(absl::CancelledError("the destination's agent ends"));
        else
            abort("the destination's agent ends").IgnoreError();
        main_.join();
    }
    watcher_ = {};
    committer_ = {};
    // Once it is over the listener is somebody else's.
    if (is_draining()) vm_->set_listener({});
}

void IncomingMigration::on_guest_event(const GuestEvent& event) {
    const std::lock_guard lock(mutex_);
    if (event.kind == GuestEventKind::kGone) vm_gone_ = true;
    if (event.kind == GuestEventKind::kResume) {
        ran_here_ = true;
        if (state_ == v1::INCOMING_STATE_WAITING) end_early_guest();
    }
    if (!load_status_) {
        if (event.kind == GuestEventKind::kGone) load_status_ = "gone";
        if (event.kind == GuestEventKind::kMigration &&
            (event.detail == "completed" || event.detail == "failed"))
            load_status_ = event.detail;
    }
    changed_.notify_all();
}

void IncomingMigration::run() {
    absl::Status status;
    do {
        absl::StatusOr<std::shared_ptr<Session>> session = accept_session();
        status = session.ok() ? serve_session(**session) : session.status();
        if (!session.ok()) break_session(status);  // in a drain that is why the source is lost
    } while (await_next_session());
    if (state().state() == v1::INCOMING_STATE_WAITING) {
        {
            // What broke the streams says more than that they are broken.
            const std::lock_guard lock(mutex_);
            if (!broken_.ok()) status = broken_;
        }
        refuse(status);
    }
    watcher_ = {};
    committer_ = {};
    settle();
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
}

absl::StatusOr<std::shared_ptr<IncomingMigration::Session>> IncomingMigration::accept_session() {
    HelloExpectation expected;
    {
        const std::lock_guard lock(mutex_);
        if (!broken_.ok()) return broken_;
        expected = expected_;
        session_asked_ = false;
        resumed_told_ = reconnect_said_resumed_;
        markers_ = 0;
    }
    GODWIT_ASSIGN_OR_RETURN(
        StreamAcceptor acceptor,
        StreamAcceptor::create(listener_, expected, {.ring = dependencies_.ring}));
    const MonotonicTime deadline = Clock::system().now() + kAcceptLimit;
    auto session = std::make_shared<Session>();
    session->data.resize(expected.stream_count - 1);
    for (uint16_t i = 0; i < expected.stream_count; ++i) {
        GODWIT_ASSIGN_OR_RETURN(AcceptedStream stream, acceptor.accept(deadline, wakeup_.fd()));
        const uint16_t index = stream.route.stream;
        (index + 1 == expected.stream_count ? session->urgent : session->data[index]) =
            std::move(stream);
    }
    session->writer =
        std::make_unique<FrameWriter>(*session->urgent.channel, session->urgent.route);
    const std::lock_guard lock(mutex_);
    if (!broken_.ok()) return broken_;  // an abort that came meanwhile
    session_ = session;
    return session;
}

// Until the streams end.
absl::Status IncomingMigration::serve_session(Session& session) {
    dependencies_.at_step(step::kStreamsAccepted);
    if (!watcher_.joinable())
        watcher_ = std::jthread([this](const std::stop_token& stop) { watch_guest(stop); });
    if (!is_draining()) prepare_cont(false);
    for (AcceptedStream& stream : session.data)
        receivers_.emplace_back([this, &session, &stream] { receive_pages(session, stream); });
    absl::Status status = is_draining() ? begin_next_session(session) : absl::OkStatus();
    if (status.ok()) status = serve_urgent(session);
    // The source's report is to say why. A connection that is lost needs no telling.
    if (absl::IsDataLoss(status) && state().state() == v1::INCOMING_STATE_WAITING)
        session.writer
            ->send(FrameKind::kAbort, TextBody{.text = std::string(status.message())}.encode())
            .IgnoreError();
    break_session(status);
    receivers_.clear();
    if (postcopy_ && is_draining()) postcopy_->connection_lost();
    const std::lock_guard lock(mutex_);
    session_.reset();
    return status;
}

void IncomingMigration::break_session(const absl::Status& reason) {
    const std::lock_guard lock(mutex_);
    if (broken_.ok()) {
        broken_ = reason;
        spdlog::debug("migration {}: the streams end here: {}", id(),
                      std::string(reason.message()));
    }
    wakeup_.notify();
    if (session_) session_->shutdown();
}

std::shared_ptr<IncomingMigration::Session> IncomingMigration::session() const {
    const std::lock_guard lock(mutex_);
    return session_;
}

absl::StatusOr<DestinationPhase> IncomingMigration::hear(StreamKind stream, FrameKind frame) {
    const std::lock_guard lock(mutex_);
    const std::optional<DestinationPhase> next = after(phase_, stream, frame);
    if (!next)
        return absl::InvalidArgumentError(
            fmt::format("unexpected frame on {} stream: {} while {}",
                        stream == StreamKind::kData ? "a data" : "the urgent",
                        frame_kind_name(frame), phase_name(phase_)));
    phase_ = *next;
    return phase_;
}

void IncomingMigration::note_armed() {
    const std::lock_guard lock(mutex_);
    phase_ = DestinationPhase::kArmed;
}

DestinationPhase IncomingMigration::phase() const {
    const std::lock_guard lock(mutex_);
    return phase_;
}

// LOADED, or why not, as soon as QEMU says so; and later that it has ended.
void IncomingMigration::watch_guest(const std::stop_token& stop) {
    set_thread_name("guest-watch");
    const auto tell = [this](FrameKind kind, const FrameBytes& body) {
        const std::shared_ptr<Session> now = session();
        if (!now) return;
        if (const absl::Status sent = now->writer->send(kind, body); !sent.ok())
            break_session(sent);
    };
    std::string status;
    {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return load_status_.has_value(); })) return;
        status = *load_status_;
    }
    if (status == "completed") {
        dependencies_.at_step(step::kLoadDone);
        const bool serving = phase() == DestinationPhase::kServing;
        if (state().state() == v1::INCOMING_STATE_WAITING) tell(FrameKind::kLoaded, {});
        // While the source decides: QEMU has hundreds of mappings.
        const absl::Status mapped = serving ? postcopy_->check_mappings() : absl::OkStatus();
        std::unique_lock lock(mutex_);
        mappings_ = mapped;
        changed_.notify_all();
        Said said;
        while (!changed_.wait_for(lock, stop, kLook, [this] { return vm_gone_; })) {
            if (stop.stop_requested()) return;
            lock.unlock();
            warn_of_stall(said);
            lock.lock();
        }
        const DestinationPhase now = phase_;
        lock.unlock();
        if (now == DestinationPhase::kDraining) {
            tell(FrameKind::kGuestGone, TextBody{.text = "its QEMU has ended"}.encode());
            return break_session(absl::NotFoundError("the guest's QEMU has ended"));
        }
        if (state().state() != v1::INCOMING_STATE_WAITING) return;
        status = "gone";
    }
    std::string why =
        status == "gone" ? "its QEMU has ended" : "its QEMU could not load the device state";
    {
        const std::lock_guard lock(mutex_);
        if (ran_early_) why = kRanEarly;
    }
    // The source reads the reason before it sees the streams close: it aborts us.
    tell(FrameKind::kLoadFailed, TextBody{.text = why}.encode());
}

// Once for each fault that waits so long, and once when nobody serves them any more.
void IncomingMigration::warn_of_stall(Said& said) const {
    if (!is_draining()) return;
    if (const absl::Status failure = postcopy_->failure(); !failure.ok() && !said.failure) {
        said.failure = true;
        spdlog::error("migration {}: the guest's faults are not served: {}", id(),
                      std::string(failure.message()));
    }
    const std::optional<MonotonicTime> since = postcopy_->waits_since();
    if (!since || since == said.stall || Clock::system().now() - *since < kStallWorthSaying) return;
    said.stall = since;
    spdlog::warn("migration {}: the guest has waited {:.0f} s for a page that the source owes it",
                 id(), to_ms(Clock::system().now() - *since) / 1000);
}

absl::Status IncomingMigration::enter(v1::JournalPhase phase, const std::string& detail,
                                      Journal::Durability durability) {
    const std::lock_guard one_at_a_time(journal_mutex_);
    v1::JournalRecord record;
    {
        const std::lock_guard lock(mutex_);
        // The last page may come before the first page of the drain was noted.
        if (phase == v1::JOURNAL_PHASE_DRAINING && record_.phase() == v1::JOURNAL_PHASE_RESUMED)
            return absl::OkStatus();
        record_.set_phase(phase);
        record_.set_detail(detail);
        record = record_;
    }
    Journal::Prepared& prepared = prepared_cont_.at(record.postcopy() ? 1 : 0);
    if (phase == v1::JOURNAL_PHASE_CONT) return journal_.write(record, prepared);
    const absl::Status status = journal_.write(record, durability);
    // CONT, where QEMU has refused it: what came before still says LIVE, and needs no room.
    if (!status.ok() && phase == v1::JOURNAL_PHASE_LIVE && journal_.take_back(prepared).ok())
        return absl::OkStatus();
    return status;
}

// The record that COMMIT brings about, if it is to run the guest: nothing else is like to change.
void IncomingMigration::prepare_cont(bool postcopy) {
    const std::lock_guard one_at_a_time(journal_mutex_);
    v1::JournalRecord record;
    {
        const std::lock_guard lock(mutex_);
        record = record_;
    }
    // A host that is restarted later is to find that the migration was here.
    if (const absl::Status synced = postcopy ? absl::OkStatus() : journal_.sync(); !synced.ok())
        spdlog::warn("migration {}: {}", id(), std::string(synced.message()));
    record.set_phase(v1::JOURNAL_PHASE_CONT);
    record.clear_detail();
    record.set_was_running(true);
    record.set_arrival_owed(true);
    record.set_postcopy(postcopy);
    absl::StatusOr<Journal::Prepared> prepared =
        journal_.prepare(record, postcopy ? "cont-postcopy" : "cont");
    // Then it is written in the pause.
    if (prepared.ok()) prepared_cont_.at(postcopy ? 1 : 0) = *std::move(prepared);
}

absl::Status IncomingMigration::abort(const std::string& reason) {
    {
        const std::lock_guard lock(mutex_);
        if (state_ == v1::INCOMING_STATE_COMMITTED || state_ == v1::INCOMING_STATE_RESUMED)
            return absl::FailedPreconditionError("COMMIT has come: the guest is here");
    }
    break_session(absl::AbortedError(reason));
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] {
        return ended_ || state_ == v1::INCOMING_STATE_COMMITTED ||
               state_ == v1::INCOMING_STATE_RESUMED;
    });
    if (state_ == v1::INCOMING_STATE_REFUSED) return absl::OkStatus();
    return absl::FailedPreconditionError("COMMIT came first: the guest is here");
}

bool IncomingMigration::ended() const {
    const std::lock_guard lock(mutex_);
    return ended_;
}

v1::QueryResponse IncomingMigration::state() const {
    const std::lock_guard lock(mutex_);
    v1::QueryResponse response;
    response.set_state(state_);
    response.set_detail(detail_);
    response.set_guest_gone(record_.guest_gone());
    response.set_draining(is_drain(phase_));
    if (is_drain(phase_) && postcopy_) response.set_missing_pages(postcopy_->missing_count());
    response.set_arrival_owed(record_.arrival_owed());
    response.set_arrival_problem(record_.arrival_problem());
    if (phase_ == DestinationPhase::kDrained)
        *response.mutable_postcopy() = record_.report().postcopy();
    return response;
}

}  // namespace godwit
