#include "engine/source/streams.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "engine/postcopy/realtime.h"
#include "transport/stream/handshake.h"

namespace godwit {
namespace {

// Somebody waits for pages then; a healthy network acknowledges within milliseconds.
constexpr std::chrono::milliseconds kDrainUserTimeout{8000};

}  // namespace

absl::StatusOr<std::unique_ptr<SourceStreams>> SourceStreams::connect(Target target,
                                                                      SourceSignals& signals,
                                                                      MonotonicTime deadline) {
    SessionToken token{};
    if (target.session_token.size() != token.size())
        return absl::InvalidArgumentError("The destination's session token has a wrong length");
    std::memcpy(token.data(), target.session_token.data(), token.size());

    std::unique_ptr<SourceStreams> streams(new SourceStreams(std::move(target), signals));
    const Target& to = streams->target_;
    streams->phase_ = to.phase;
    FrameRoute route{.migration_id = frame_migration_id(to.migration_id),
                     .generation = to.generation};
    GODWIT_RETURN_IF_ERROR(streams->open_all(route, token, deadline));
    route.stream = to.stream_count;
    streams->urgent_writer_ = std::make_unique<FrameWriter>(*streams->urgent_channel_, route);
    if (to.on_made) to.on_made(*streams);
    streams->reader_ = std::jthread([self = streams.get(), route] {
        set_thread_name("urgent-reader");
        self->realtime_ = run_realtime();
        FrameReader reader(*self->urgent_channel_, route);
        self->read_urgent(reader);
        const std::lock_guard lock(self->cpu_latency_mutex_);
        self->ended_ = true;
        self->cpu_latency_ = {};
    });
    return streams;
}

// At the same time: each takes two round trips.
absl::Status SourceStreams::open_all(const FrameRoute& route, const SessionToken& token,
                                     MonotonicTime deadline) {
    data_.resize(target_.stream_count);
    in_use_ = data_.size();
    std::vector<absl::Status> outcomes(data_.size());
    {
        std::vector<std::jthread> openers;
        for (uint16_t i = 0; i < target_.stream_count; ++i)
            openers.emplace_back([&, i, own = route]() mutable {
                own.stream = i;
                outcomes[i] = open_data(data_[i], own, token, deadline);
            });
        FrameRoute own = route;
        own.stream = target_.stream_count;
        absl::StatusOr<std::unique_ptr<TcpChannel>> urgent = open(own, token, deadline);
        if (urgent.ok())
            urgent_channel_ = *std::move(urgent);
        else
            outcomes.push_back(urgent.status());
    }
    for (const absl::Status& outcome : outcomes) GODWIT_RETURN_IF_ERROR(outcome);
    return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<TcpChannel>> SourceStreams::open(const FrameRoute& route,
                                                                const SessionToken& token,
                                                                MonotonicTime deadline) const {
    TcpOptions options = target_.tcp;
    if (route.stream == target_.stream_count) options.ring = kUrgentRing;
    const std::vector<std::string>& sources = target_.source_addresses;
    if (route.stream < target_.stream_count && !sources.empty())
        options.source_address = sources[route.stream % sources.size()];
    GODWIT_ASSIGN_OR_RETURN(auto channel,
                            connect_tcp(target_.host, target_.port, deadline, -1, options));
    GODWIT_RETURN_IF_ERROR(client_hello(*channel, route, token, deadline));
    return channel;
}

absl::Status SourceStreams::open_data(DataStream& stream, const FrameRoute& route,
                                      const SessionToken& token, MonotonicTime deadline) const {
    GODWIT_ASSIGN_OR_RETURN(stream.channel, open(route, token, deadline));
    GODWIT_RETURN_IF_ERROR(stream.channel->prepare_for_bulk());
    stream.writer = std::make_unique<FrameWriter>(*stream.channel, route);
    GODWIT_ASSIGN_OR_RETURN(PageSender sender,
                            PageSender::create(*stream.writer, {.compression = target_.compression,
                                                                .limiter = target_.limiter}));
    stream.sender.emplace(std::move(sender));
    return absl::OkStatus();
}

absl::Status SourceStreams::shorten_timeouts() {
    for (DataStream& stream : data_)
        GODWIT_RETURN_IF_ERROR(set_tcp_timeout(stream.channel->fd(), kDrainUserTimeout));
    return set_tcp_timeout(urgent_channel_->fd(), kDrainUserTimeout);
}

void SourceStreams::keep_cpus_awake(CpuLatencyLimit limit) {
    absl::StatusOr<CpuLatencyHold> hold = CpuLatencyHold::take(limit);
    if (!hold.ok()) {
        spdlog::info("idle CPUs wake as the host has it: {}", std::string(hold.status().message()));
        return;
    }
    const std::lock_guard lock(cpu_latency_mutex_);
    if (ended_) return;
    cpu_latency_ = *std::move(hold);
    cpus_awake_ = cpu_latency_.holds();
}

bool SourceStreams::cpus_awake() const {
    const std::lock_guard lock(cpu_latency_mutex_);
    return cpus_awake_;
}

SourceStreams::~SourceStreams() { shutdown(); }

void SourceStreams::shutdown() {
    stopping_.request_stop();
    for (DataStream& stream : data_)
        if (stream.channel) stream.channel->shutdown();  // not all of them when connect() failed
    if (urgent_channel_) urgent_channel_->shutdown();
}

void SourceStreams::close() {
    shutdown();
    if (reader_.joinable()) reader_.join();
}

Bytes SourceStreams::sent_bytes() const {
    Bytes total = urgent_channel_->sent_bytes();
    for (const DataStream& stream : data_) total += stream.channel->sent_bytes();
    return total;
}

Bytes SourceStreams::unacknowledged_bytes() const {
    Bytes total = 0;
    for (const DataStream& stream : data_) total += stream.channel->unacknowledged_bytes();
    return total;
}

SourceStreams::ZeroCopy SourceStreams::zero_copy() const {
    ZeroCopy result;
    for (const DataStream& stream : data_) {
        const bool sends = stream.channel->sends_zero_copy();
        if (sends || result.explanation.empty())
            result.explanation = stream.channel->explain_zero_copy();
        result.streams += sends ? 1 : 0;
    }
    return result;
}

void SourceStreams::read_urgent(FrameReader& reader) {
    while (true) {
        const absl::StatusOr<Frame> frame = reader.next();
        absl::Status status = frame.status();
        if (frame.ok()) status = handle(*frame);
        if (status.ok()) continue;
        spdlog::debug("the urgent stream has ended: {}", std::string(status.message()));
        // What the destination gave as its reason is not overwritten by what came of it.
        signals_.update([&](SourceSignals::Seen& seen) {
            if (seen.connection.ok()) seen.connection = status;
        });
        return;
    }
}

absl::Status SourceStreams::handle(const Frame& frame) {
    SourcePhase phase = phase_;
    const std::optional<SourcePhase> next = after(phase, frame.kind());
    if (!next)
        return absl::InvalidArgumentError(
            fmt::format("unexpected frame from the destination: {} while {}",
                        frame_kind_name(frame.kind()), phase_name(phase)));
    // The migration's own thread may have gone on meanwhile: then it stays where that put it.
    if (*next != phase) phase_.compare_exchange_strong(phase, *next);
    if (frame.kind() == FrameKind::kPageRequest) {
        GODWIT_ASSIGN_OR_RETURN(const PageRequestBody request,
                                PageRequestBody::decode(frame.body, target_.chunk_counts));
        if (phase == SourcePhase::kOver) return absl::OkStatus();
        return target_.requests->page_requested(request.block, request.page);
    }
    return note(frame);
}

absl::Status SourceStreams::note(const Frame& frame) {
    using Seen = SourceSignals::Seen;
    const MonotonicTime now = Clock::system().now();
    const auto text = [&] {
        const absl::StatusOr<TextBody> body = TextBody::decode(frame.body);
        return body.ok() ? body->text : std::string("(no reason given)");
    };
    switch (frame.kind()) {
        case FrameKind::kMarkerAck: {
            GODWIT_ASSIGN_OR_RETURN(const MarkerAckBody ack, MarkerAckBody::decode(frame.body));
            if (ack.stream >= data_.size() || ack.round > last_round_)
                return absl::InvalidArgumentError(
                    "unexpected frame from the destination: a marker-ack for nothing");
            signals_.update([&](Seen& seen) { seen.acked_round[ack.stream] = ack.round; });
            break;
        }
        case FrameKind::kDamaged:
            return note_damage(frame);
        case FrameKind::kPostcopyReady:
            signals_.update([&](Seen& seen) { seen.ready_for_faults_at = now; });
            break;
        case FrameKind::kLoaded:
            signals_.update([&](Seen& seen) { seen.loaded_at = now; });
            break;
        case FrameKind::kLoadFailed:
            spdlog::debug("the destination could not load the device state");
            signals_.update([&](Seen& seen) { seen.load_failed = text(); });
            break;
        case FrameKind::kAbort:
            signals_.update([&](Seen& seen) { seen.connection = absl::AbortedError(text()); });
            break;
        case FrameKind::kResumed:
            signals_.update([&](Seen& seen) { seen.resumed_at = now; });
            break;
        case FrameKind::kRefused:
            signals_.update([&](Seen& seen) { seen.refused = text(); });
            break;
        case FrameKind::kVerifyResult:
        case FrameKind::kVerifyPagesResult: {
            if (--verify_replies_due_ < 0)
                return absl::InvalidArgumentError(
                    "unexpected frame from the destination: nothing was asked");
            {
                const std::lock_guard lock(replies_mutex_);
                replies_.emplace_back(frame.body.begin(), frame.body.end());
            }
            signals_.update([&](Seen& seen) { ++seen.verify_replies; });
            break;
        }
        default:
            return note_drain(frame);
    }
    return absl::OkStatus();
}

absl::Status SourceStreams::note_drain(const Frame& frame) {
    using Seen = SourceSignals::Seen;
    switch (frame.kind()) {
        case FrameKind::kMissing: {
            GODWIT_ASSIGN_OR_RETURN(
                const std::vector<ChunkPages> list,
                decode_chunk_pages(frame.body, target_.chunk_counts, kMaxMissingChunks));
            target_.requests->pages_missing(list);
            break;
        }
        case FrameKind::kMissingEnd:
            signals_.update([](Seen& seen) { ++seen.missing_lists; });
            break;
        case FrameKind::kDrained: {
            v1::Postcopy postcopy;
            if (!postcopy.ParseFromArray(frame.body.data(), static_cast<int>(frame.body.size())))
                return absl::InvalidArgumentError("a drained frame that can't be read");
            signals_.update([&](Seen& seen) { seen.drained = postcopy; });
            break;
        }
        case FrameKind::kGuestGone: {
            GODWIT_ASSIGN_OR_RETURN(const TextBody body, TextBody::decode(frame.body));
            signals_.update([&](Seen& seen) { seen.gone_there = body.text; });
            break;
        }
        default:
            break;  // kPong
    }
    return absl::OkStatus();
}

absl::Status SourceStreams::note_damage(const Frame& frame) {
    GODWIT_ASSIGN_OR_RETURN(const DamagedBody damage,
                            DamagedBody::decode(frame.body, target_.chunk_counts));
    if (damage.stream >= data_.size())
        return absl::InvalidArgumentError(
            fmt::format("unexpected frame from the destination: pages of stream {} are damaged",
                        damage.stream));
    spdlog::warn("stream {}: {} pages of chunk {} of RAM block {} came damaged to the destination",
                 damage.stream, count_pages(damage.pages.pages), damage.pages.chunk,
                 damage.pages.block);
    const std::lock_guard lock(damage_mutex_);
    ChunkMask& pages = damaged_[{damage.pages.block, damage.pages.chunk}];
    for (size_t i = 0; i < pages.size(); ++i) pages[i] |= damage.pages.pages[i];
    ++damaged_frames_;
    return absl::OkStatus();
}

SourceStreams::Damage SourceStreams::take_damage() {
    const std::lock_guard lock(damage_mutex_);
    Damage damage{.frames = std::exchange(damaged_frames_, 0)};
    for (const auto& [place, pages] : std::exchange(damaged_, {}))
        damage.pages.push_back({.block = place.first, .chunk = place.second, .pages = pages});
    return damage;
}

std::vector<FrameBytes> SourceStreams::take_verify_replies() {
    const std::lock_guard lock(replies_mutex_);
    return std::exchange(replies_, {});
}

}  // namespace godwit
