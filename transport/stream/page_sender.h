// PageSender: builds kPages frames in two staging buffers, so that the next one is gathered and
// compressed while the one before it is sent.
#pragma once

#include <array>
#include <cstddef>
#include <optional>
#include <span>
#include <stop_token>

#include "engine/base/mapping.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "transport/codec/chunk_codec.h"
#include "transport/frame/pages_body.h"
#include "transport/stream/frame_writer.h"
#include "transport/stream/rate_limiter.h"

namespace godwit {

// One thread per sender (the writer may have other users). Writer and limiter must outlive it.
// Allocates only when it is made: two frames, and with `compress` one chunk more.
class PageSender {
  public:
    struct Options {
        bool compress = false;           // lz4 where it saves something
        RateLimiter* limiter = nullptr;  // none: as fast as it goes
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
        // XXH3-128 of each page in gather(), or none: then they are hashed again where they are
        // sent as they are.
        std::span<const Hash128> hashes;
    };
    // Sends what gather() holds: count(present) - count(zero) pages. Returns when the frame is on
    // its way. Errors: the writer's, Cancelled when the limiter was stopped or `stop` was asked
    // for.
    absl::Status send(const Chunk& chunk, const std::stop_token& stop = {});

    // Waits until the channel has taken every frame.
    absl::Status flush() { return writer_->wait(); }

    // Payload bytes before and after compression, and frames with their headers as sent.
    struct Totals {
        Bytes raw_bytes = 0;
        Bytes payload_bytes = 0;
        Bytes frame_bytes = 0;
    };
    [[nodiscard]] const Totals& totals() const { return totals_; }

  private:
    PageSender(FrameWriter& writer, RateLimiter* limiter, std::array<FrameBuffer, 2> buffers);

    FrameWriter* writer_;
    RateLimiter* limiter_;
    std::array<FrameBuffer, 2> buffers_;
    size_t current_ = 0;               // the buffer that is not being sent
    std::optional<ChunkCodec> codec_;  // with compress
    Mapping gathered_;                 // with compress
    Totals totals_;
};

}  // namespace godwit
