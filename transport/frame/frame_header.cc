#include "transport/frame/frame_header.h"

#include <fmt/format.h>

#include <cstring>
#include <string>

#include "engine/base/hash.h"
#include "transport/frame/bodies.h"
#include "transport/frame/byte_io.h"
#include "transport/frame/pages_body.h"

namespace godwit {
namespace {

constexpr size_t kCheckedBytes = kFrameHeaderBytes - sizeof(uint64_t);

std::string text_of(const MigrationId& id) {
    std::string text;
    for (const std::byte byte : id) text += fmt::format("{:02x}", std::to_integer<unsigned>(byte));
    return text;
}

}  // namespace

bool carries_pages(FrameKind kind) {
    return kind == FrameKind::kPages || kind == FrameKind::kFaultPages ||
           kind == FrameKind::kPrepagedPages;
}

MigrationId frame_migration_id(std::string_view id) {
    const Hash128 hash = hash_bytes(std::as_bytes(std::span(id)));
    MigrationId bytes{};
    std::memcpy(bytes.data(), &hash, sizeof hash);
    return bytes;
}

std::string_view frame_kind_name(FrameKind kind) {
    switch (kind) {
        case FrameKind::kHello:
            return "hello";
        case FrameKind::kHelloAck:
            return "hello-ack";
        case FrameKind::kPages:
            return "pages";
        case FrameKind::kMarker:
            return "marker";
        case FrameKind::kDeviceState:
            return "device-state";
        case FrameKind::kDeviceStateEnd:
            return "device-state-end";
        case FrameKind::kMarkerAck:
            return "marker-ack";
        case FrameKind::kLoaded:
            return "loaded";
        case FrameKind::kLoadFailed:
            return "load-failed";
        case FrameKind::kVerifyChunks:
            return "verify-chunks";
        case FrameKind::kVerifyResult:
            return "verify-result";
        case FrameKind::kCommit:
            return "commit";
        case FrameKind::kResumed:
            return "resumed";
        case FrameKind::kRefused:
            return "refused";
        case FrameKind::kAbort:
            return "abort";
        case FrameKind::kPing:
            return "ping";
        case FrameKind::kPong:
            return "pong";
        case FrameKind::kVerifyBegin:
            return "verify-begin";
        case FrameKind::kVerifyPages:
            return "verify-pages";
        case FrameKind::kVerifyPagesResult:
            return "verify-pages-result";
        case FrameKind::kCommitPaused:
            return "commit-paused";
        case FrameKind::kPunch:
            return "punch";
        case FrameKind::kPostcopyBegin:
            return "postcopy-begin";
        case FrameKind::kPostcopyFinal:
            return "postcopy-final";
        case FrameKind::kPostcopyOff:
            return "postcopy-off";
        case FrameKind::kFaultPages:
            return "fault-pages";
        case FrameKind::kPrepagedPages:
            return "prepaged-pages";
        case FrameKind::kPostcopyReady:
            return "postcopy-ready";
        case FrameKind::kPageRequest:
            return "page-request";
        case FrameKind::kMissing:
            return "missing";
        case FrameKind::kMissingEnd:
            return "missing-end";
        case FrameKind::kDrained:
            return "drained";
        case FrameKind::kGuestGone:
            return "guest-gone";
        case FrameKind::kDamaged:
            return "damaged";
    }
    return "unknown";
}

BodyBound body_bound(FrameKind kind) {
    switch (kind) {
        case FrameKind::kHello:
            return {sizeof(SessionToken), sizeof(SessionToken)};
        case FrameKind::kHelloAck:
        case FrameKind::kLoaded:
        case FrameKind::kCommit:
        case FrameKind::kCommitPaused:
        case FrameKind::kResumed:
        case FrameKind::kVerifyBegin:
        case FrameKind::kPostcopyBegin:
        case FrameKind::kPostcopyFinal:
        case FrameKind::kPostcopyOff:
        case FrameKind::kPostcopyReady:
        case FrameKind::kMissingEnd:
            return {0, 0};
        case FrameKind::kPages:
        case FrameKind::kFaultPages:
        case FrameKind::kPrepagedPages:
            return {kPagesHeadBytes, kMaxPagesBodyBytes};
        case FrameKind::kMarker:
            return {4, 4};
        case FrameKind::kMarkerAck:
            return {6, 6};
        case FrameKind::kDeviceState:
            return {1, kMaxDeviceStateBytes};
        case FrameKind::kDeviceStateEnd:
        case FrameKind::kPing:
        case FrameKind::kPong:
            return {8, 8};
        case FrameKind::kLoadFailed:
        case FrameKind::kRefused:
        case FrameKind::kAbort:
        case FrameKind::kGuestGone:
            return {0, kMaxTextBytes};
        case FrameKind::kPunch:
            return {ChunkPages::kBytes, ChunkPages::kBytes};
        case FrameKind::kDamaged:
            return {2 + ChunkPages::kBytes, 2 + ChunkPages::kBytes};
        case FrameKind::kPageRequest:
            return {12, 12};
        case FrameKind::kMissing:
            return {ChunkPages::kBytes, ChunkPages::kBytes * kMaxMissingChunks};
        case FrameKind::kDrained:
            return {0, kMaxDrainedBytes};
        case FrameKind::kVerifyChunks:
            return {12 + 16, 12 + 16 * kMaxVerifyChunks};
        case FrameKind::kVerifyResult:
            return {16, 16 + 8 * kMaxVerifyChunks};
        case FrameKind::kVerifyPages:
            return {12 + 16 * kPagesPerChunk, 12 + 16 * kPagesPerChunk};
        case FrameKind::kVerifyPagesResult:
            return {kPagesPerChunk / 8, kPagesPerChunk / 8};
    }
    return {};
}

absl::Status check_body_bound(FrameKind kind, size_t body_bytes) {
    const BodyBound bound = body_bound(kind);
    if (bound.min_bytes > bound.max_bytes)
        return absl::InvalidArgumentError(
            fmt::format("unknown frame kind {}", static_cast<unsigned>(kind)));
    if (body_bytes < bound.min_bytes || body_bytes > bound.max_bytes)
        return absl::InvalidArgumentError(
            fmt::format("a {} frame with a body of {} bytes, outside {} to {}",
                        frame_kind_name(kind), body_bytes, bound.min_bytes, bound.max_bytes));
    return absl::OkStatus();
}

void encode_header(const FrameHeader& header, FrameHeaderBytes out) {
    ByteWriter writer(out);
    writer.u32(kFrameMagic);
    writer.u16(kProtocolVersion);
    writer.u16(static_cast<uint16_t>(header.kind));
    writer.copy(header.route.migration_id);
    writer.u16(header.route.stream);
    writer.u16(0);
    writer.u32(header.route.generation);
    writer.u32(header.body_bytes);
    writer.u32(0);
    writer.u64(header.sequence);
    writer.u64(header.body_checksum);
    writer.u64(checksum_bytes(out.first(kCheckedBytes)));
}

absl::StatusOr<FrameHeader> decode_header(ConstFrameHeaderBytes bytes) {
    ByteReader reader(bytes);
    if (reader.u32() != kFrameMagic)
        return absl::DataLossError("bad magic: these bytes are not a Godwit frame");
    // Before the checksum: another version may compute it in another way.
    const uint16_t version = reader.u16();
    if (version != kProtocolVersion)
        return absl::FailedPreconditionError(
            fmt::format("the peer speaks protocol version {}, this agent version {}: use the same "
                        "release on both hosts",
                        version, kProtocolVersion));
    if (ByteReader(bytes.subspan(kCheckedBytes)).u64() !=
        checksum_bytes(bytes.first(kCheckedBytes)))
        return absl::DataLossError("the checksum of a frame header does not match");
    FrameHeader header;
    header.kind = static_cast<FrameKind>(reader.u16());
    reader.copy(header.route.migration_id);
    header.route.stream = reader.u16();
    const uint16_t flags = reader.u16();
    header.route.generation = reader.u32();
    header.body_bytes = reader.u32();
    const uint32_t reserved = reader.u32();
    header.sequence = reader.u64();
    header.body_checksum = reader.u64();
    if (flags != 0 || reserved != 0)
        return absl::InvalidArgumentError("a reserved field of a frame header is not zero");
    GODWIT_RETURN_IF_ERROR(check_body_bound(header.kind, header.body_bytes));
    return header;
}

absl::Status check_route(const FrameHeader& header, const FrameRoute& route, uint64_t sequence) {
    if (header.route.migration_id != route.migration_id)
        return absl::PermissionDeniedError(
            fmt::format("a frame of migration {} came in on migration {}",
                        text_of(header.route.migration_id), text_of(route.migration_id)));
    if (header.route.stream != route.stream)
        return absl::InvalidArgumentError(fmt::format("a frame of stream {} came in on stream {}",
                                                      header.route.stream, route.stream));
    if (header.route.generation != route.generation)
        return absl::InvalidArgumentError(
            fmt::format("a frame of generation {} came in on generation {}",
                        header.route.generation, route.generation));
    if (header.sequence != sequence)
        return absl::DataLossError(
            fmt::format("sequence gap: frame {} came in place of {}", header.sequence, sequence));
    return absl::OkStatus();
}

uint64_t checksum_body(FrameKind kind, std::span<const std::byte> body) {
    return carries_pages(kind) ? checksum_pages(body) : checksum_bytes(body);
}

absl::Status check_body(const FrameHeader& header, std::span<const std::byte> body) {
    if (body.size() != header.body_bytes)
        return absl::DataLossError(fmt::format("a {} frame has a body of {} bytes instead of {}",
                                               frame_kind_name(header.kind), body.size(),
                                               header.body_bytes));
    if (checksum_body(header.kind, body) != header.body_checksum)
        return absl::DataLossError(fmt::format(
            "the checksum of the body of a {} frame does not match", frame_kind_name(header.kind)));
    return absl::OkStatus();
}

}  // namespace godwit
