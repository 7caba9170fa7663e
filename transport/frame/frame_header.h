// FrameHeader: the 64 bytes in front of every message between two agents.
//
// Little-endian, packed, no padding but the reserved word:
//
//   offset size field            offset size field
//        0    4 magic "GDWT"         32    4 body length in bytes
//        4    2 protocol version     36    4 reserved, zero
//        6    2 kind                 40    8 sequence number
//        8   16 migration id         48    8 XXH3-64 of the body
//       24    2 stream index         56    8 XXH3-64 of bytes 0–55
//       26    2 flags, zero
//       28    4 generation
//
// The checksum of a body that carries pages is made of those of its pieces: checksum_pages.
//
// Everything here is a pure function over bytes: no I/O, no state, no allocation.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

inline constexpr size_t kFrameHeaderBytes = 64;
inline constexpr uint32_t kFrameMagic = 0x54574447;  // "GDWT"
inline constexpr uint16_t kProtocolVersion = 6;

using MigrationId = std::array<std::byte, 16>;
// The 16 bytes that stand for a migration's id, whatever its length: XXH3-128 of it.
MigrationId frame_migration_id(std::string_view id);

enum class FrameKind : uint16_t {
    // First on every stream, in each direction.
    kHello = 1,
    kHelloAck = 2,
    // Data streams, source to destination.
    kPages = 3,
    kMarker = 4,  // a round ends on this stream
    kDeviceState = 5,
    kDeviceStateEnd = 6,
    // The urgent stream.
    kMarkerAck = 7,
    kLoaded = 8,
    kLoadFailed = 9,
    kVerifyChunks = 10,
    kVerifyResult = 11,
    kCommit = 12,
    kResumed = 13,
    kRefused = 14,
    kAbort = 15,
    kPing = 16,
    kPong = 17,
    kVerifyBegin = 18,  // hash all RAM now
    kVerifyPages = 19,
    kVerifyPagesResult = 20,
    kCommitPaused = 21,  // as kCommit, for a guest that was paused before: it stays so
    // Post-copy. Data streams, source to destination:
    kPunch = 22,  // these pages are stale there, or never came: they follow after the resume
    // Urgent stream, source to destination:
    kPostcopyBegin = 23,  // register the guest's memory for faults
    kPostcopyFinal = 24,  // every stale page is known: faults may be asked for from now on
    kPostcopyOff = 25,    // all pages are there after all
    kFaultPages = 26,     // kPages for a fault
    kPrepagedPages = 27,  // kPages that go with one
    // Urgent stream, destination to source:
    kPostcopyReady = 28,
    kPageRequest = 29,
    kMissing = 30,  // after a reconnection, or a push that did not bring all: send these
    kMissingEnd = 31,
    kDrained = 32,    // the last page is in place
    kGuestGone = 33,  // its QEMU ended after COMMIT
    kDamaged = 34,    // these pages came damaged and were dropped: send them again
};

// Whether its body is a PagesBody.
bool carries_pages(FrameKind kind);

// "kPages" is "pages"; an unknown kind is "unknown".
std::string_view frame_kind_name(FrameKind kind);

// The smallest and the largest body of a kind, in bytes. A kind that is none has {1, 0}.
struct BodyBound {
    uint32_t min_bytes = 1;
    uint32_t max_bytes = 0;
};
BodyBound body_bound(FrameKind kind);
// Errors: InvalidArgument (unknown kind, or a length out of its bounds).
absl::Status check_body_bound(FrameKind kind, size_t body_bytes);

// What every frame of one direction of one stream has in common.
struct FrameRoute {
    MigrationId migration_id{};
    uint16_t stream = 0;
    uint32_t generation = 0;
    bool operator==(const FrameRoute&) const = default;
};

struct FrameHeader {
    FrameKind kind = FrameKind::kPing;
    FrameRoute route;
    uint32_t body_bytes = 0;
    uint64_t sequence = 0;
    uint64_t body_checksum = 0;
    bool operator==(const FrameHeader&) const = default;
};

using FrameHeaderBytes = std::span<std::byte, kFrameHeaderBytes>;
using ConstFrameHeaderBytes = std::span<const std::byte, kFrameHeaderBytes>;

void encode_header(const FrameHeader& header, FrameHeaderBytes out);

// Checks magic, version, header checksum, reserved fields, kind, and the length against the kind's
// bound, in this order. Errors: DataLoss (bad magic, checksum mismatch), FailedPrecondition
// (another version: the message names both), InvalidArgument (unknown kind, length out of bounds,
// reserved field set).
absl::StatusOr<FrameHeader> decode_header(ConstFrameHeaderBytes bytes);

// Whether the frame belongs here. Errors: PermissionDenied (another migration), InvalidArgument
// (another stream or generation), DataLoss (sequence gap; the message names both numbers).
absl::Status check_route(const FrameHeader& header, const FrameRoute& route, uint64_t sequence);

// What a frame's header says of its body.
uint64_t checksum_body(FrameKind kind, std::span<const std::byte> body);

// Whether `body` is the one that the header announces. Errors: DataLoss.
absl::Status check_body(const FrameHeader& header, std::span<const std::byte> body);

}  // namespace godwit
