// PagesBody: pages of one chunk of guest RAM, the body of a kPages frame.
//
//   offset size field
//        0    4 block index
//        4    4 raw bytes: length of the payload before compression
//        8    8 chunk index in the block
//       16   64 present: bit i of word i/64 = page i of the chunk is in this frame
//       80   64 zero: subset of present; these pages are all zero and have no payload
//      144   64 delta: subset of present, none of them zero; their bytes in the payload are the XOR
//               of what the destination holds and the new content
//      208    1 codec: 0 raw, 1 an lz4 block, 2 a zstd frame that says its size and has no
//               dictionary
//      209   39 reserved, zero
//      248    8 XXH3-64 of bytes 0–247: a frame whose payload is damaged still says whose it was
//      256    … payload: the present pages that are not zero, ascending, encoded
//
// A delta means anything only where the destination holds what the source sent last: between two
// frames of one stream, never in memory that was punched.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>

#include "engine/base/hash.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

inline constexpr size_t kPagesHeadBytes = 256;  // with the frame header whole cache lines
inline constexpr size_t kMaxPagesBodyBytes = kPagesHeadBytes + kChunkBytes;

enum class PageCodec : uint8_t { kRaw = 0, kLz4 = 1, kZstd = 2 };

// The pages of one chunk: page 0 in bit 0 of word 0, as in PageBitmap::words().
using ChunkMask = std::array<uint64_t, kPagesPerChunk / 64>;

uint32_t count_pages(const ChunkMask& mask);
// The eight words of `bitmap` that belong to `chunk` (bits past its end are zero).
ChunkMask chunk_mask(const PageBitmap& bitmap, ChunkIndex chunk);
// Moves the first `most` pages (at least one) out of `from`.
ChunkMask take_pages(ChunkMask& from, uint64_t most);
// Calls visit for each maximal run of set pages, ascending; indices are within the chunk.
void for_each_run(const ChunkMask& mask, const std::function<void(PageRange)>& visit);

// `payload` points into the frame's body and is not owned.
struct PagesBody {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    ChunkMask present{};
    ChunkMask zero{};
    ChunkMask delta{};
    PageCodec codec = PageCodec::kRaw;
    uint32_t raw_bytes = 0;
    std::span<const std::byte> payload;

    // Pages that have a payload, deltas among them: present and not zero.
    [[nodiscard]] ChunkMask filled() const;
};

// Writes everything but the payload to the first kPagesHeadBytes of `body`.
void encode_pages_head(const PagesBody& pages, std::span<std::byte, kPagesHeadBytes> body);

// Whether a frame may have deltas where it arrives. What fills punched memory (kFaultPages,
// kPrepagedPages, any kPages once pages are missing) has nothing to apply them to.
enum class DeltaPages { kRefused, kAccepted };

// Which pages the frame is about, when its payload can't be trusted. Errors: DataLoss (the head
// itself is damaged); decode_pages' of a place that is not there.
// Of the result only block, chunk and present are set.
absl::StatusOr<PagesBody> decode_damaged_pages(std::span<const std::byte> body,
                                               std::span<const uint64_t> chunk_counts);

// The body checksum of a pages frame: XXH3-64 of the XXH3-128 of its head and of each 4 KiB of its
// payload (the last piece may be shorter). Where the payload is raw pages, their hashes are known
// to the sender already: it need not read them again.
uint64_t checksum_pages(std::span<const std::byte> head, std::span<const Hash128> piece_hashes);
uint64_t checksum_pages(std::span<const std::byte> body);

// Decodes and checks everything that can be checked without decompressing: the chunk exists
// (`chunk_counts[block]` chunks in each block), at least one page, zero ⊆ present, delta ⊆ filled,
// raw_bytes is 4096 times the filled pages, the payload is exactly raw_bytes long (raw) or shorter
// and not empty (lz4, zstd). Errors: InvalidArgument, naming what is wrong.
absl::StatusOr<PagesBody> decode_pages(std::span<const std::byte> body,
                                       std::span<const uint64_t> chunk_counts,
                                       DeltaPages deltas = DeltaPages::kRefused);

}  // namespace godwit
