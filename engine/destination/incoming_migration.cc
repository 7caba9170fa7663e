#include "engine/destination/incoming_migration.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/random.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "engine/base/log.h"
#include "transport/codec/chunk_codec.h"

namespace godwit {
namespace {

// The source connects as soon as it has the answer to Prepare.
constexpr Duration kAcceptLimit = std::chrono::seconds(15);
constexpr Duration kResumeLimit = std::chrono::seconds(10);
constexpr Duration kKillLimit = std::chrono::seconds(10);
// Between two questions to a QEMU that can't be reached after COMMIT.
constexpr Duration kAskAgain = std::chrono::milliseconds(100);

SessionToken random_token() {
    SessionToken token{};
    size_t filled = 0;
    while (filled < token.size()) {
        const ssize_t got = ::getrandom(token.data() + filled, token.size() - filled, 0);
        if (got > 0) filled += static_cast<size_t>(got);
    }
    return token;
}

}  // namespace

absl::StatusOr<std::unique_ptr<IncomingMigration>> IncomingMigration::start(
    const v1::PrepareRequest& request, Dependencies dependencies) {
    GODWIT_ASSIGN_OR_RETURN(Journal journal,
                            Journal::open(dependencies.state_dir, request.migration_id()));
    GODWIT_ASSIGN_OR_RETURN(TcpListener listener, TcpListener::bind(dependencies.listen_host, 0));
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    v1::JournalRecord record;
    record.set_migration_id(request.migration_id());
    record.set_role(v1::ROLE_DESTINATION);
    record.set_vm(request.spec().name());
    record.set_peer(request.source());
    GODWIT_RETURN_IF_ERROR(journal.write(record, Journal::Durability::kPageCache));

    std::shared_ptr<Vm> vm;
    // A record that stayed LIVE would have a later agent kill whatever VM has this name then.
    const auto clean_up = [&](const absl::Status& cause) {
        if (vm) {
            if (!vm->kill(kKillLimit).ok()) return cause;
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
    UniqueFd ours(pair[0]);
    UniqueFd for_guest(pair[1]);

    std::unique_ptr<IncomingMigration> incoming(
        new IncomingMigration(std::move(dependencies), vm, std::move(journal), std::move(listener),
                              std::move(wakeup), std::move(*writer)));
    incoming->record_ = record;
    incoming->device_state_ = std::move(ours);
    incoming->expected_ = {.migration_id = frame_migration_id(request.migration_id()),
                           .stream_count = static_cast<uint16_t>(request.streams() + 1),
                           .token = random_token()};
    vm->set_listener(
        [self = incoming.get()](const GuestEvent& event) { self->on_guest_event(event); });
    incoming->dependencies_.at_step(step::kIncoming);
    if (const absl::Status status = vm->begin_device_load(std::move(for_guest)); !status.ok()) {
        incoming->refuse(status);
        return status;
    }
    incoming->main_ = std::jthread([self = incoming.get()] {
        set_thread_name("incoming");
        self->run();
    });
    return incoming;
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
        abort("the destination's agent ends").IgnoreError();
        main_.join();
    }
    loader_ = {};
}

void IncomingMigration::on_guest_event(const GuestEvent& event) {
    const std::lock_guard lock(mutex_);
    if (event.kind == GuestEventKind::kGone) vm_gone_ = true;
    if (event.kind == GuestEventKind::kResume) ran_here_ = true;
    if (!load_status_) {
        if (event.kind == GuestEventKind::kGone) load_status_ = "gone";
        if (event.kind == GuestEventKind::kMigration &&
            (event.detail == "completed" || event.detail == "failed"))
            load_status_ = event.detail;
    }
    changed_.notify_all();
}

void IncomingMigration::run() {
    absl::Status status = accept_streams();
    if (status.ok()) {
        dependencies_.at_step(step::kStreamsAccepted);
        loader_ = std::jthread([this](const std::stop_token& stop) { report_load(stop); });
        for (size_t i = 0; i + 1 < streams_.size(); ++i)
            receivers_.emplace_back([this, i] { receive_pages(streams_[i]); });
        status = serve_urgent();
    }
    if (state().state() == v1::INCOMING_STATE_WAITING) {
        {
            // What broke the streams says more than that they are broken.
            const std::lock_guard lock(mutex_);
            if (!broken_.ok()) status = broken_;
        }
        refuse(status);
    }
    break_streams(absl::CancelledError("the migration has ended"));
    receivers_.clear();
    loader_ = {};
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
}

absl::Status IncomingMigration::accept_streams() {
    GODWIT_ASSIGN_OR_RETURN(StreamAcceptor acceptor, StreamAcceptor::create(listener_, expected_));
    const MonotonicTime deadline = Clock::system().now() + kAcceptLimit;
    std::vector<AcceptedStream> accepted(expected_.stream_count);
    for (uint16_t i = 0; i < expected_.stream_count; ++i) {
        GODWIT_ASSIGN_OR_RETURN(AcceptedStream stream, acceptor.accept(deadline, wakeup_.fd()));
        accepted[stream.route.stream] = std::move(stream);
    }
    const std::lock_guard lock(mutex_);
    streams_ = std::move(accepted);
    urgent_ = std::make_unique<FrameWriter>(*streams_.back().channel, streams_.back().route);
    channels_open_ = true;
    return broken_;  // an abort that came meanwhile
}

void IncomingMigration::break_streams(const absl::Status& reason) {
    const std::lock_guard lock(mutex_);
    if (broken_.ok()) broken_ = reason;
    wakeup_.notify();
    if (!channels_open_) return;
    for (AcceptedStream& stream : streams_) stream.channel->shutdown();
}

void IncomingMigration::receive_pages(AcceptedStream& stream) {
    set_thread_name(fmt::format("recv-{}", stream.route.stream).c_str());
    const absl::Status status = receive_until_error(stream);
    if (absl::IsOutOfRange(status)) return;  // an orderly close is no error
    // A full RAM mount, say. A connection that is lost needs no telling.
    if (!absl::IsUnavailable(status) && state().state() == v1::INCOMING_STATE_WAITING)
        urgent_->send(FrameKind::kAbort, TextBody{.text = std::string(status.message())}.encode())
            .IgnoreError();
    break_streams(status);
}

absl::Status IncomingMigration::receive_until_error(AcceptedStream& stream) {
    FrameReader reader(*stream.channel, stream.route);
    ChunkCodec codec;
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Frame frame, reader.next());
        if (frame.kind() == FrameKind::kPages) {
            GODWIT_ASSIGN_OR_RETURN(const PagesBody pages, decode_pages(frame.body, chunk_counts_));
            GODWIT_ASSIGN_OR_RETURN(const std::span<const std::byte> raw,
                                    codec.decompress(pages.codec, pages.payload, pages.raw_bytes));
            if (state().state() != v1::INCOMING_STATE_WAITING)
                return absl::FailedPreconditionError("pages after COMMIT");
            GODWIT_RETURN_IF_ERROR(writer_.write(pages, raw));
        } else if (frame.kind() == FrameKind::kMarker) {
            GODWIT_ASSIGN_OR_RETURN(const MarkerBody marker, MarkerBody::decode(frame.body));
            const MarkerAckBody ack{.round = marker.round, .stream = stream.route.stream};
            GODWIT_RETURN_IF_ERROR(urgent_->send(FrameKind::kMarkerAck, ack.encode()));
        } else {
            return absl::InvalidArgumentError("unexpected frame on a data stream");
        }
    }
}

// LOADED, or why not, as soon as QEMU says so; and, until COMMIT, that a loaded QEMU has ended.
void IncomingMigration::report_load(const std::stop_token& stop) {
    set_thread_name("load-reporter");
    std::string status;
    {
        std::unique_lock lock(mutex_);
        if (!changed_.wait(lock, stop, [this] { return load_status_.has_value(); })) return;
        status = *load_status_;
    }
    absl::Status sent;
    if (status == "completed") {
        dependencies_.at_step(step::kLoadDone);
        sent = urgent_->send(FrameKind::kLoaded);
        std::unique_lock lock(mutex_);
        if (sent.ok() && (!changed_.wait(lock, stop, [this] { return vm_gone_; }) ||
                          state_ != v1::INCOMING_STATE_WAITING))
            return;
        status = "gone";
    }
    if (sent.ok()) {
        const std::string text =
            status == "gone" ? "its QEMU has ended" : "its QEMU could not load the device state";
        sent = urgent_->send(FrameKind::kLoadFailed, TextBody{.text = text}.encode());
        // The source reads the reason before it sees the streams close: it aborts us.
    }
    if (!sent.ok()) break_streams(sent);
}

absl::Status IncomingMigration::serve_urgent() {
    FrameReader reader(*streams_.back().channel, streams_.back().route);
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Frame frame, reader.next());
        if (frame.kind() == FrameKind::kCommit) return commit(true);
        if (frame.kind() == FrameKind::kCommitPaused) return commit(false);
        GODWIT_RETURN_IF_ERROR(serve_frame(frame));
    }
}

absl::Status IncomingMigration::serve_frame(const Frame& frame) {
    switch (frame.kind()) {
        case FrameKind::kDeviceState:
            return write_device_state(frame.body);
        case FrameKind::kDeviceStateEnd: {
            GODWIT_ASSIGN_OR_RETURN(const DeviceStateEndBody end,
                                    DeviceStateEndBody::decode(frame.body));
            ::shutdown(device_state_.get(), SHUT_WR);
            if (end.total_bytes == device_state_bytes_) return absl::OkStatus();
            return absl::DataLossError(fmt::format("device state: {} of {} bytes came",
                                                   device_state_bytes_, end.total_bytes));
        }
        case FrameKind::kVerifyBegin:
            hashes_ =
                std::async(std::launch::async, [this] { return hash_ram(vm_->ram_blocks(), 2); });
            return absl::OkStatus();
        case FrameKind::kVerifyChunks:
            return answer_verify_chunks(frame);
        case FrameKind::kVerifyPages:
            return answer_verify_pages(frame);
        case FrameKind::kAbort: {
            GODWIT_ASSIGN_OR_RETURN(const TextBody text, TextBody::decode(frame.body));
            return absl::AbortedError("the source aborted: " + text.text);
        }
        case FrameKind::kPing:
            return urgent_->send(FrameKind::kPong, frame.body);
        default:
            return absl::InvalidArgumentError(fmt::format(
                "unexpected frame on the urgent stream: {}", frame_kind_name(frame.kind())));
    }
}

absl::Status IncomingMigration::write_device_state(std::span<const std::byte> bytes) {
    dependencies_.at_step(step::kDeviceStateCame);
    device_state_bytes_ += bytes.size();
    while (!bytes.empty()) {
        // QEMU reads as fast as it can; an abort wakes us.
        std::array<pollfd, 2> fds{{{device_state_.get(), POLLOUT, 0}, {wakeup_.fd(), POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR)
            return errno_status(errno, "poll");
        if (fds[1].revents != 0) return absl::CancelledError("aborted");
        const ssize_t put =
            ::send(device_state_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        // QEMU has given up: its event says why and goes to the source; the rest is of no use.
        if (put < 0) return absl::OkStatus();
        bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return absl::OkStatus();
}

absl::Status IncomingMigration::answer_verify_chunks(const Frame& frame) {
    GODWIT_ASSIGN_OR_RETURN(const VerifyChunksBody theirs,
                            VerifyChunksBody::decode(frame.body, chunk_counts_));
    if (hashes_.valid()) {
        GODWIT_ASSIGN_OR_RETURN(known_hashes_, hashes_.get());
    }
    VerifyResultBody result{.block = theirs.block,
                            .first_chunk = theirs.first_chunk,
                            .chunk_count = static_cast<uint32_t>(theirs.hashes.size())};
    std::vector<Hash128> ours(theirs.hashes.size());
    for (const ChunkHash& hash : known_hashes_)
        if (hash.block == theirs.block && hash.chunk >= theirs.first_chunk &&
            hash.chunk - theirs.first_chunk < ours.size())
            ours[hash.chunk - theirs.first_chunk] = hash.hash;
    for (size_t i = 0; i < ours.size(); ++i)
        if (ours[i] != theirs.hashes[i]) result.different.push_back(theirs.first_chunk + i);
    return urgent_->send(FrameKind::kVerifyResult, result.encode());
}

absl::Status IncomingMigration::answer_verify_pages(const Frame& frame) {
    GODWIT_ASSIGN_OR_RETURN(const VerifyPagesBody theirs,
                            VerifyPagesBody::decode(frame.body, chunk_counts_));
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Hash128> ours,
                            hash_pages(vm_->ram_blocks()[theirs.block], theirs.chunk));
    VerifyPagesResultBody result;
    for (size_t page = 0; page < kPagesPerChunk; ++page)
        if (ours[page] != theirs.hashes[page])
            result.different[page / 64] |= uint64_t{1} << (page % 64);
    return urgent_->send(FrameKind::kVerifyPagesResult, result.encode());
}

absl::Status IncomingMigration::enter(v1::JournalPhase phase, const std::string& detail) {
    v1::JournalRecord record;
    {
        const std::lock_guard lock(mutex_);
        record_.set_phase(phase);
        record_.set_detail(detail);
        record = record_;
    }
    return journal_.write(record, Journal::Durability::kPageCache);
}

absl::Status IncomingMigration::commit(bool run_guest) {
    dependencies_.at_step(step::kCommitCame);
    {
        const std::lock_guard lock(mutex_);
        if (!broken_.ok()) return broken_;  // an abort came first
        if (load_status_ != "completed")
            return absl::FailedPreconditionError("COMMIT before the device state was loaded");
        state_ = v1::INCOMING_STATE_COMMITTED;
        record_.set_was_running(run_guest);
    }
    absl::Status resumed = enter(v1::JOURNAL_PHASE_CONT, "");
    dependencies_.at_step(step::kContNoted);
    if (resumed.ok()) resumed = resume_guest(run_guest);
    if (!resumed.ok()) return refuse_commit(resumed);
    dependencies_.at_step(step::kContDone);
    {
        const std::lock_guard lock(mutex_);
        state_ = v1::INCOMING_STATE_RESUMED;
    }
    // Whoever hears of RESUMED may migrate the VM on at once.
    vm_->set_listener({});
    dependencies_.on_resumed(record_.vm());
    const absl::Status told = urgent_->send(FrameKind::kResumed);
    if (!told.ok())
        spdlog::warn("migration {}: RESUMED was not sent ({}); the source will ask", id(),
                     std::string(told.message()));
    dependencies_.at_step(step::kResumedSent);
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_RESUMED, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    if (const absl::Status status = vm_->announce(); !status.ok())
        spdlog::warn("migration {}: announce: {}", id(), std::string(status.message()));
    return absl::OkStatus();
}

// Ok: the guest is this side's, running or crashed. An error: it has never run here, for QEMU was
// not asked or answered `cont` with an error.
absl::Status IncomingMigration::resume_guest(bool run) {
    if (wait_readable(vm_->gone_fd(), -1, Clock::system().now()).ok())
        return absl::UnavailableError("its QEMU ended before it was asked to run the guest");
    bool events_lost = false;
    while (run) {
        const absl::Status status = vm_->resume(kResumeLimit);
        if (status.ok()) break;
        spdlog::error("migration {}: resuming after COMMIT: {}", id(),
                      std::string(status.message()));
        if (absl::IsNotFound(status)) break;  // QEMU ended: `cont` may have been carried out
        if (absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status)) {
            // No answer is no refusal either. Asked again until QEMU says.
            events_lost |= absl::IsUnavailable(status);
            wait_readable(-1, -1, Clock::system().now() + kAskAgain).IgnoreError();
            continue;
        }
        // RESUME comes before the answer to the `cont` that caused it, on the same connection. A
        // guest that has run, and stopped by itself since, is here.
        const std::lock_guard lock(mutex_);
        if (!ran_here_ && !events_lost) return status;
        break;
    }
    return absl::OkStatus();
}

// COMMIT came, and the guest has never run here: QEMU is dead and reaped before the source hears
// it.
absl::Status IncomingMigration::refuse_commit(const absl::Status& reason) {
    // An agent that comes back after our death must not resume what QEMU refused to run.
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_LIVE, ""); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    dependencies_.at_step(step::kContRefused);
    refuse(reason);
    if (state().state() != v1::INCOMING_STATE_REFUSED) return reason;  // it may live: no answer
    return urgent_->send(FrameKind::kRefused,
                         TextBody{.text = std::string(reason.message())}.encode());
}

// The guest will never run here.
void IncomingMigration::refuse(const absl::Status& reason) {
    const std::string text(reason.message());
    vm_->set_listener({});
    spdlog::warn("migration {}: ended here: {}", id(), text);
    if (const absl::Status killed = vm_->kill(kKillLimit); !killed.ok()) {
        // Still COMMITTED or WAITING for whoever asks: never REFUSED while its QEMU may live.
        spdlog::error("migration {}: QEMU pid {} could not be ended: {}", id(), vm_->pid(),
                      std::string(killed.message()));
        return;
    }
    dependencies_.hypervisor->forget(*vm_).IgnoreError();
    if (const absl::Status status = enter(v1::JOURNAL_PHASE_REFUSED, text); !status.ok())
        spdlog::error("migration {}: {}", id(), std::string(status.message()));
    {
        const std::lock_guard lock(mutex_);
        state_ = v1::INCOMING_STATE_REFUSED;
        detail_ = text;
    }
    dependencies_.on_refused(record_.vm());
}

absl::Status IncomingMigration::abort(const std::string& reason) {
    {
        const std::lock_guard lock(mutex_);
        if (state_ == v1::INCOMING_STATE_COMMITTED || state_ == v1::INCOMING_STATE_RESUMED)
            return absl::FailedPreconditionError("COMMIT has come: the guest is here");
    }
    break_streams(absl::AbortedError(reason));
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return ended_; });
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
    return response;
}

}  // namespace godwit
