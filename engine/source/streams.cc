#include "engine/source/streams.h"

#include <cstring>

#include "engine/base/log.h"
#include "engine/base/wait.h"
#include "transport/stream/handshake.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<SourceStreams>> SourceStreams::connect(
    const MigrationSettings& settings, const v1::PrepareResponse& prepared, SourceSignals& signals,
    MonotonicTime deadline) {
    SessionToken token{};
    if (prepared.session_token().size() != token.size())
        return absl::InvalidArgumentError("The destination's session token has a wrong length");
    std::memcpy(token.data(), prepared.session_token().data(), token.size());

    std::unique_ptr<SourceStreams> streams(
        new SourceStreams(signals, settings.bandwidth_bytes_per_s));
    FrameRoute route{.migration_id = frame_migration_id(settings.id)};
    const auto open = [&]() -> absl::StatusOr<std::unique_ptr<TcpChannel>> {
        GODWIT_ASSIGN_OR_RETURN(auto channel,
                                connect_tcp(settings.destination.host,
                                            static_cast<uint16_t>(prepared.data_port()), deadline));
        GODWIT_RETURN_IF_ERROR(client_hello(*channel, route, token, deadline));
        return channel;
    };
    for (uint16_t i = 0; i < settings.streams; ++i) {
        route.stream = i;
        DataStream& stream = streams->data_.emplace_back();
        GODWIT_ASSIGN_OR_RETURN(stream.channel, open());
        stream.writer = std::make_unique<FrameWriter>(*stream.channel, route);
        GODWIT_ASSIGN_OR_RETURN(
            PageSender sender,
            PageSender::create(*stream.writer, {.compress = true, .limiter = &streams->limiter_}));
        stream.sender.emplace(std::move(sender));
    }
    route.stream = settings.streams;
    GODWIT_ASSIGN_OR_RETURN(streams->urgent_channel_, open());
    streams->urgent_writer_ = std::make_unique<FrameWriter>(*streams->urgent_channel_, route);
    streams->reader_ = std::jthread([self = streams.get(), route] {
        set_thread_name("urgent-reader");
        FrameReader reader(*self->urgent_channel_, route);
        self->read_urgent(reader);
    });
    return streams;
}

SourceStreams::~SourceStreams() { shutdown(); }

void SourceStreams::shutdown() {
    limiter_.stop();
    for (DataStream& stream : data_)
        if (stream.channel) stream.channel->shutdown();  // not all of them when connect() failed
    if (urgent_channel_) urgent_channel_->shutdown();
}

Bytes SourceStreams::sent_bytes() const {
    Bytes total = urgent_channel_->sent_bytes();
    for (const DataStream& stream : data_) total += stream.channel->sent_bytes();
    return total;
}

void SourceStreams::read_urgent(FrameReader& reader) {
    while (true) {
        const absl::StatusOr<Frame> frame = reader.next();
        if (!frame.ok()) {
            spdlog::debug("the urgent stream has ended: {}", std::string(frame.status().message()));
            signals_.update([&](SourceSignals::Seen& seen) { seen.connection = frame.status(); });
            return;
        }
        if (!handle(*frame)) return;
    }
}

bool SourceStreams::handle(const Frame& frame) {
    const MonotonicTime now = Clock::system().now();
    const auto text = [&] {
        const absl::StatusOr<TextBody> body = TextBody::decode(frame.body);
        return body.ok() ? body->text : std::string("(no reason given)");
    };
    switch (frame.kind()) {
        case FrameKind::kMarkerAck: {
            const auto ack = MarkerAckBody::decode(frame.body);
            if (!ack.ok() || ack->stream >= data_.size() || ack->round > last_round_) break;
            signals_.update(
                [&](SourceSignals::Seen& seen) { seen.acked_round[ack->stream] = ack->round; });
            return true;
        }
        case FrameKind::kLoaded:
            if (!device_state_is_due_) break;
            signals_.update([&](SourceSignals::Seen& seen) { seen.loaded_at = now; });
            return true;
        case FrameKind::kLoadFailed:
            spdlog::debug("the destination could not load the device state");
            signals_.update([&](SourceSignals::Seen& seen) { seen.load_failed = text(); });
            return true;
        case FrameKind::kAbort:
            signals_.update(
                [&](SourceSignals::Seen& seen) { seen.connection = absl::AbortedError(text()); });
            return true;
        case FrameKind::kResumed:
            if (!commit_is_sent_) break;
            signals_.update([&](SourceSignals::Seen& seen) { seen.resumed_at = now; });
            return true;
        case FrameKind::kRefused:
            signals_.update([&](SourceSignals::Seen& seen) { seen.refused = text(); });
            return true;
        case FrameKind::kVerifyResult:
        case FrameKind::kVerifyPagesResult: {
            if (--verify_replies_due_ < 0) break;
            {
                const std::lock_guard lock(replies_mutex_);
                replies_.emplace_back(frame.body.begin(), frame.body.end());
            }
            signals_.update([&](SourceSignals::Seen& seen) { ++seen.verify_replies; });
            return true;
        }
        default:
            break;
    }
    signals_.update([&](SourceSignals::Seen& seen) {
        seen.connection =
            absl::InvalidArgumentError(std::string("unexpected frame from the destination: ") +
                                       std::string(frame_kind_name(frame.kind())));
    });
    return false;
}

std::vector<FrameBytes> SourceStreams::take_verify_replies() {
    const std::lock_guard lock(replies_mutex_);
    return std::exchange(replies_, {});
}

}  // namespace godwit
