// PageSender: builds kPages frames in staging buffers, so that the next one is gathered and packed
// while the one before it is sent.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <stop_token>

#include "engine/base/clock.h"
#include "engine/base/mapping.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "transport/codec/chunk_codec.h"
#include "transport/codec/codec_governor.h"
#include "transport/frame/pages_body.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/rate_limiter.h"

namespace godwit {

// kAuto: lz4 or zstd where that makes the stream faster, by what link and CPU were measured to do.
enum class Compression { kOff, kAuto, kLz4, kZstd };

// One thread per sender (the writer may have other users). Writer and limiter must outlive it.
// Allocates only when it is made: a frame that is sent, one that is gathered, and one more to pack
// into, 2 MiB each.
class PageSender {
  public:
    struct Options {
        Compression compression = Compression::kOff;
        RateLimiter* limiter = nullptr;  // none: as fast as it goes
        const Clock* clock = &Clock::system();
    };
    static absl::StatusOr<PageSender> create(FrameWriter& writer, const Options& options);

    // kChunkBytes where the caller puts the filled pages of the next frame, one after another,
    // ascending. A new area after each send(); what was in it is undefined.
    [[nodiscard]] std::span<std::byte> gather();

    struct Chunk {
        BlockIndex block = 0;
        ChunkIndex chunk = 0;
        ChunkMask present{};  // at least one page
        ChunkMask zero{};     // subset of present: not in gather()
        ChunkMask delta{};    // subset of the rest: XOR with what the destination holds
        // XXH3-128 of each page in gather(), or none: then they are hashed again where they are
        // sent as they are.
        std::span<const Hash128> hashes;
    };
    // Sends what gather() holds: count(present) - count(zero) pages. Returns when the frame is on
    // its way. Errors: the writer's, Cancelled when the limiter was stopped or `stop` was asked
    // for.
    absl::Status send(const Chunk& chunk, const std::stop_token& stop = {});

    // Waits until the channel has taken every frame.
    absl::Status flush();

    // Whether deltas are worth their making.
    [[nodiscard]] bool deltas_pay() const;

    // Payload bytes before and after packing, frames with their headers as sent, and how filled
    // pages went.
    struct Totals {
        Bytes raw_bytes = 0;
        Bytes payload_bytes = 0;
        Bytes frame_bytes = 0;
        uint64_t raw_pages = 0;
        uint64_t lz4_pages = 0;
        uint64_t zstd_pages = 0;
        uint64_t delta_pages = 0;  // packed or not
    };
    [[nodiscard]] const Totals& totals() const { return totals_; }
    [[nodiscard]] const CodecGovernor& governor() const { return governor_; }

  private:
    PageSender(FrameWriter& writer, const Options& options, std::array<FrameBuffer, 3> buffers);

    // Sets the payload of what was gathered, packed or not; returns the buffer that it is in.
    [[nodiscard]] size_t place_payload(PagesBody& pages);
    [[nodiscard]] PageCodec choose_codec(const PagesBody& pages);
    // Into the spare buffer.
    [[nodiscard]] CodecGovernor::Packing pack(PageCodec codec, std::span<const std::byte> raw);
    [[nodiscard]] size_t spare() const { return buffers_.size() - sent_ - gather_; }
    void count(const PagesBody& pages, size_t frame_bytes);

    FrameWriter* writer_;
    Options options_;
    std::array<FrameBuffer, 3> buffers_;
    size_t sent_ = 0;    // the buffer that is being sent
    size_t gather_ = 1;  // the buffer that is gathered into
    ChunkCodec codec_;
    CodecGovernor governor_;
    bool populated_ = false;
    MonotonicTime gather_began_{};
    Totals totals_;
};

}  // namespace godwit
