// The bodies of all frames but kPages. Each struct has encode() and a static decode() that accepts
// exactly what encode() makes: a short body, a long one, or a count out of bounds is
// InvalidArgument. kHelloAck, kLoaded, kCommit, kCommitPaused, kResumed, kVerifyBegin,
// kPostcopy… and kMissingEnd have no body; the body of kDeviceState is the bytes themselves, that
// of kDrained a Postcopy message (report.proto), those of kFaultPages and kPrepagedPages are a
// PagesBody (pages_body.h).
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "engine/base/hash.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "transport/frame/pages_body.h"

namespace godwit {

using FrameBytes = std::vector<std::byte>;

// One QEMU migration-stream read at most; a headless machine's device state is ~210 KB in all.
inline constexpr uint32_t kMaxDeviceStateBytes = 1u << 20;
// A reason for people: an error with its cause, not a log.
inline constexpr uint32_t kMaxTextBytes = 4096;
// 8 GiB of guest RAM per frame, 64 KiB of hashes.
inline constexpr uint32_t kMaxVerifyChunks = 4096;

// 40 KB in a frame, 1 GiB of guest RAM.
inline constexpr uint32_t kMaxMissingChunks = 512;
// A few numbers; see report.proto.
inline constexpr uint32_t kMaxDrainedBytes = 4096;

// A secret that came over the authenticated control channel.
using SessionToken = std::array<std::byte, 32>;

// Compares in a time that does not depend on where the two differ.
bool equal_tokens(const SessionToken& a, const SessionToken& b);

// kHello.
struct HelloBody {
    SessionToken token{};
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<HelloBody> decode(std::span<const std::byte> body);
};

// kMarker: everything of this round that travels on this stream was sent before it.
struct MarkerBody {
    uint32_t round = 0;
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<MarkerBody> decode(std::span<const std::byte> body);
};

// kMarkerAck: the destination has written everything before the marker of `round` on `stream`.
struct MarkerAckBody {
    uint32_t round = 0;
    uint16_t stream = 0;
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<MarkerAckBody> decode(std::span<const std::byte> body);
};

// kDeviceStateEnd: how many bytes of device state came before it.
struct DeviceStateEndBody {
    uint64_t total_bytes = 0;
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<DeviceStateEndBody> decode(std::span<const std::byte> body);
};

// kLoadFailed, kRefused, kAbort, kGuestGone. encode() cuts at kMaxTextBytes; what decode() gives is
// printable(), whatever the peer sent: it ends up in our log, in reports and in the journal.
struct TextBody {
    std::string text;
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<TextBody> decode(std::span<const std::byte> body);
};

// kVerifyChunks: XXH3-128 of consecutive chunks of a block; 1 to kMaxVerifyChunks of them.
struct VerifyChunksBody {
    BlockIndex block = 0;
    ChunkIndex first_chunk = 0;
    std::vector<Hash128> hashes;
    [[nodiscard]] FrameBytes encode() const;
    // Also checks that the chunks exist (`chunk_counts[block]` chunks in each block).
    static absl::StatusOr<VerifyChunksBody> decode(std::span<const std::byte> body,
                                                   std::span<const uint64_t> chunk_counts);
};

// kVerifyResult: which of `chunk_count` chunks from `first_chunk` on differ, ascending.
struct VerifyResultBody {
    BlockIndex block = 0;
    ChunkIndex first_chunk = 0;
    uint32_t chunk_count = 0;
    std::vector<ChunkIndex> different;
    [[nodiscard]] FrameBytes encode() const;
    // Also checks that the chunks exist and that every difference is one of them.
    static absl::StatusOr<VerifyResultBody> decode(std::span<const std::byte> body,
                                                   std::span<const uint64_t> chunk_counts);
};

// kVerifyPages: XXH3-128 of each page of one chunk.
struct VerifyPagesBody {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    std::array<Hash128, kPagesPerChunk> hashes{};
    [[nodiscard]] FrameBytes encode() const;
    // Also checks that the chunk exists.
    static absl::StatusOr<VerifyPagesBody> decode(std::span<const std::byte> body,
                                                  std::span<const uint64_t> chunk_counts);
};

// kVerifyPagesResult: bit i of word i/64 = page i of the chunk differs.
struct VerifyPagesResultBody {
    std::array<uint64_t, kPagesPerChunk / 64> different{};
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<VerifyPagesResultBody> decode(std::span<const std::byte> body);
};

// kPunch, one; kMissing, 1 to kMaxMissingChunks: some pages, at least one, of a chunk.
struct ChunkPages {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    ChunkMask pages{};
    static constexpr uint32_t kBytes = 12 + kPagesPerChunk / 8;
    bool operator==(const ChunkPages&) const = default;
};
FrameBytes encode_chunk_pages(std::span<const ChunkPages> list);
// Also checks that the chunks exist and that at most `limit` came.
absl::StatusOr<std::vector<ChunkPages>> decode_chunk_pages(std::span<const std::byte> body,
                                                           std::span<const uint64_t> chunk_counts,
                                                           size_t limit);

// kDamaged: a kPages frame came whose payload is not what the source sent. Before the marker of its
// round is acknowledged.
struct DamagedBody {
    uint16_t stream = 0;
    ChunkPages pages;
    [[nodiscard]] FrameBytes encode() const;
    // Also checks that the chunk exists and that at least one page of it is named.
    static absl::StatusOr<DamagedBody> decode(std::span<const std::byte> body,
                                              std::span<const uint64_t> chunk_counts);
};

// kPageRequest: the guest waits for this page. Neither allocates: a fault is being served.
struct PageRequestBody {
    BlockIndex block = 0;
    PageIndex page = 0;
    static constexpr size_t kBytes = 12;
    [[nodiscard]] std::array<std::byte, kBytes> encode() const;
    // Also checks that the page exists.
    static absl::StatusOr<PageRequestBody> decode(std::span<const std::byte> body,
                                                  std::span<const uint64_t> chunk_counts);
};

// kPing, and kPong with the same nonce.
struct PingBody {
    uint64_t nonce = 0;
    [[nodiscard]] FrameBytes encode() const;
    static absl::StatusOr<PingBody> decode(std::span<const std::byte> body);
};

}  // namespace godwit
