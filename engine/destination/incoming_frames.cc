// IncomingMigration: what comes in on its streams.
#include <fmt/format.h>

#include "engine/base/log.h"
#include "engine/destination/incoming_migration.h"

namespace godwit {
namespace {

// A link that damages so many frames without a good one between them is no link.
constexpr int kMostDamagedInARow = 10;

}  // namespace

void IncomingMigration::receive_pages(Session& session, AcceptedStream& stream) {
    set_thread_name(fmt::format("recv-{}", stream.route.stream).c_str());
    dependencies_.placement.apply();
    const absl::Status status = receive_until_error(session, stream);
    if (absl::IsOutOfRange(status)) return;  // an orderly close is no error
    // A full RAM mount, say. A connection that is lost needs no telling.
    if (!absl::IsUnavailable(status) && !absl::IsCancelled(status) &&
        (state().state() == v1::INCOMING_STATE_WAITING || is_draining()))
        session.writer
            ->send(FrameKind::kAbort, TextBody{.text = std::string(status.message())}.encode())
            .IgnoreError();
    break_session(status);
}

absl::Status IncomingMigration::receive_until_error(Session& session, AcceptedStream& stream) {
    FrameReader reader(*stream.channel, stream.route);
    reader.accept_damaged_pages();
    ChunkCodec codec;
    int damaged_in_a_row = 0;
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Frame frame, reader.next());
        GODWIT_ASSIGN_OR_RETURN(const DestinationPhase phase,
                                hear(StreamKind::kData, frame.kind()));
        if (!frame.intact) {
            GODWIT_RETURN_IF_ERROR(note_damage(session, stream, phase, frame));
            if (++damaged_in_a_row < kMostDamagedInARow) continue;
            return absl::DataLossError(fmt::format("{} frames in a row came damaged on stream {}",
                                                   damaged_in_a_row, stream.route.stream));
        }
        switch (frame.kind()) {
            case FrameKind::kPages:
                damaged_in_a_row = 0;
                GODWIT_RETURN_IF_ERROR(take_pages(phase, frame, codec, PageOrigin::kPush));
                break;
            case FrameKind::kPunch: {
                GODWIT_ASSIGN_OR_RETURN(const std::vector<ChunkPages> stale,
                                        decode_chunk_pages(frame.body, chunk_counts_, 1));
                GODWIT_RETURN_IF_ERROR(
                    annotate(postcopy_->punch(stale.front()), "Cannot drop stale guest memory"));
                break;
            }
            default: {  // kMarker
                GODWIT_ASSIGN_OR_RETURN(const MarkerBody marker, MarkerBody::decode(frame.body));
                if (phase == DestinationPhase::kDraining) {
                    GODWIT_RETURN_IF_ERROR(marker_came(session));
                    break;
                }
                const MarkerAckBody ack{.round = marker.round, .stream = stream.route.stream};
                GODWIT_RETURN_IF_ERROR(session.writer->send(FrameKind::kMarkerAck, ack.encode()));
            }
        }
    }
}

// Nothing of such a frame is used. In a drain its pages stay missing, and are listed as such when
// the push is over.
absl::Status IncomingMigration::note_damage(Session& session, const AcceptedStream& stream,
                                            DestinationPhase phase, const Frame& frame) {
    const absl::StatusOr<PagesBody> pages = decode_damaged_pages(frame.body, chunk_counts_);
    if (!pages.ok())
        return annotate(pages.status(), fmt::format("Frame {} of stream {}", frame.header.sequence,
                                                    stream.route.stream));
    const PageIndex first = pages->chunk * kPagesPerChunk;
    std::string ranges;
    for_each_run(pages->present, [&](PageRange run) {
        if (ranges.size() < 100)
            ranges += fmt::format(" {}-{}", first + run.begin, first + run.end - 1);
    });
    spdlog::warn("frame {} of stream {} came damaged: pages{} of RAM block {} are asked for again",
                 frame.header.sequence, stream.route.stream, ranges, pages->block);
    if (phase == DestinationPhase::kDraining) {
        ++damaged_in_drain_;
        return absl::OkStatus();
    }
    const DamagedBody body{
        .stream = stream.route.stream,
        .pages = {.block = pages->block, .chunk = pages->chunk, .pages = pages->present}};
    return session.writer->send(FrameKind::kDamaged, body.encode());
}

absl::Status IncomingMigration::take_pages(DestinationPhase phase, const Frame& frame,
                                           ChunkCodec& codec, PageOrigin origin) {
    // Guest memory that faults is filled by nothing but place().
    const bool punched = phase == DestinationPhase::kPunched;
    const bool live = phase == DestinationPhase::kLive || phase == DestinationPhase::kArming ||
                      phase == DestinationPhase::kArmed;
    GODWIT_ASSIGN_OR_RETURN(const PagesBody pages,
                            decode_pages(frame.body, chunk_counts_,
                                         live ? DeltaPages::kAccepted : DeltaPages::kRefused));
    GODWIT_ASSIGN_OR_RETURN(const std::span<const std::byte> raw,
                            codec.decompress(pages.codec, pages.payload, pages.raw_bytes));
    if (live || (punched && !postcopy_->misses_some_of(pages.block, pages.chunk)))
        return writer_.write(pages, raw);
    if (punched)
        return annotate(postcopy_->put_late(pages, raw), "Cannot put a late page in place");
    return annotate(postcopy_->place(pages, raw, origin), "Cannot put a page in place");
}

absl::Status IncomingMigration::serve_urgent(Session& session) {
    FrameReader reader(*session.urgent.channel, session.urgent.route);
    // Pages for a fault must not wait for the buffer to grow.
    reader.reserve(FrameKind::kFaultPages);
    ChunkCodec codec;
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const Frame frame, reader.next());
        GODWIT_ASSIGN_OR_RETURN(const DestinationPhase phase,
                                hear(StreamKind::kUrgent, frame.kind()));
        switch (frame.kind()) {
            case FrameKind::kFaultPages:
                GODWIT_RETURN_IF_ERROR(take_pages(phase, frame, codec, PageOrigin::kDemand));
                break;
            case FrameKind::kPrepagedPages:
                GODWIT_RETURN_IF_ERROR(take_pages(phase, frame, codec, PageOrigin::kPrepaging));
                break;
            case FrameKind::kCommit:
            case FrameKind::kCommitPaused: {
                const bool run = frame.kind() == FrameKind::kCommit;
                if (phase == DestinationPhase::kCommitted) return commit(run);
                commit_while_serving(run);
                break;
            }
            default:
                GODWIT_RETURN_IF_ERROR(serve_frame(session, frame, phase));
        }
    }
}

absl::Status IncomingMigration::serve_frame(Session& session, const Frame& frame,
                                            DestinationPhase phase) {
    switch (frame.kind()) {
        case FrameKind::kDeviceState:
            keep_cpus_awake(session);
            return write_device_state(frame.body);
        case FrameKind::kDeviceStateEnd:
            return end_device_state(frame);
        case FrameKind::kVerifyBegin:
            hashes_ =
                std::async(std::launch::async, [this] { return hash_ram(vm_->ram_blocks(), 2); });
            return absl::OkStatus();
        case FrameKind::kVerifyChunks:
            return answer_verify_chunks(session, frame);
        case FrameKind::kVerifyPages:
            return answer_verify_pages(session, frame);
        case FrameKind::kAbort: {
            GODWIT_ASSIGN_OR_RETURN(const TextBody text, TextBody::decode(frame.body));
            return absl::AbortedError("the source aborted: " + text.text);
        }
        case FrameKind::kPing:
            return session.writer->send(FrameKind::kPong, frame.body);
        default:
            return serve_postcopy_frame(session, frame, phase);
    }
}

absl::Status IncomingMigration::serve_postcopy_frame(Session& session, const Frame& frame,
                                                     DestinationPhase phase) {
    if (!postcopy_)
        return absl::FailedPreconditionError("post-copy can't be done here: " + postcopy_problem_);
    switch (frame.kind()) {
        case FrameKind::kPostcopyBegin:
            keep_cpus_awake(session);
            GODWIT_RETURN_IF_ERROR(
                annotate(postcopy_->arm(), "Cannot catch the faults of the guest"));
            note_armed();
            prepare_cont(true);
            dependencies_.at_step(step::kArmed);
            return session.writer->send(FrameKind::kPostcopyReady);
        case FrameKind::kPostcopyOff:
            return postcopy_->off();
        case FrameKind::kPostcopyFinal: {
            {
                // Written with COMMIT's own record: it is of no use before.
                const std::lock_guard lock(mutex_);
                record_.set_postcopy(true);
            }
            GODWIT_RETURN_IF_ERROR(postcopy_->serve(*this));
            dependencies_.at_step(step::kServing);
            return absl::OkStatus();
        }
        case FrameKind::kMarker:
            if (phase == DestinationPhase::kDraining) return marker_came(session);
            break;
        default:
            break;
    }
    return absl::InvalidArgumentError("unexpected frame on the urgent stream");
}

void IncomingMigration::keep_cpus_awake(Session& session) {
    if (session.cpu_latency.holds() || !dependencies_.placement.cpu_latency) return;
    absl::StatusOr<CpuLatencyHold> hold = CpuLatencyHold::take(dependencies_.placement.cpu_latency);
    if (!hold.ok()) {
        spdlog::debug("migration {}: idle CPUs wake as the host has it: {}", id(),
                      std::string(hold.status().message()));
        return;
    }
    session.cpu_latency = *std::move(hold);
    cpus_awake_ = true;
}

absl::Status IncomingMigration::write_device_state(std::span<const std::byte> bytes) {
    // A restarted agent has no QEMU that waits for it.
    if (!device_state_) return absl::InvalidArgumentError("device state for a guest that has it");
    dependencies_.at_step(step::kDeviceStateCame);
    if (device_state_->written() == 0) vm_->foresee_resume();
    return device_state_->write(bytes);
}

absl::Status IncomingMigration::end_device_state(const Frame& frame) {
    if (!device_state_) return absl::InvalidArgumentError("device state for a guest that has it");
    GODWIT_ASSIGN_OR_RETURN(const DeviceStateEndBody end, DeviceStateEndBody::decode(frame.body));
    device_state_->end();
    if (end.total_bytes == device_state_->written()) return absl::OkStatus();
    return absl::DataLossError(fmt::format("device state: {} of {} bytes came",
                                           device_state_->written(), end.total_bytes));
}

absl::Status IncomingMigration::answer_verify_chunks(Session& session, const Frame& frame) {
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
    return session.writer->send(FrameKind::kVerifyResult, result.encode());
}

absl::Status IncomingMigration::answer_verify_pages(Session& session, const Frame& frame) {
    GODWIT_ASSIGN_OR_RETURN(const VerifyPagesBody theirs,
                            VerifyPagesBody::decode(frame.body, chunk_counts_));
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Hash128> ours,
                            hash_pages(vm_->ram_blocks()[theirs.block], theirs.chunk));
    VerifyPagesResultBody result;
    for (size_t page = 0; page < kPagesPerChunk; ++page)
        if (ours[page] != theirs.hashes[page])
            result.different[page / 64] |= uint64_t{1} << (page % 64);
    return session.writer->send(FrameKind::kVerifyPagesResult, result.encode());
}

}  // namespace godwit
