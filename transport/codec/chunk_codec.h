// ChunkCodec: lz4 over the pages of a chunk, one after another, and back.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "engine/base/status.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Not thread-safe: one per stream and direction. Allocates only when it is made.
class ChunkCodec {
  public:
    ChunkCodec();

    // lz4 of `raw` (≤ 2 MiB, not empty) at the front of `out` (≥ raw.size(), no overlap): its size,
    // or nothing when it does not save at least 1/16. What `out` holds behind it is undefined.
    std::optional<size_t> pack(std::span<const std::byte> raw, std::span<std::byte> out);

    struct Encoded {
        PageCodec codec = PageCodec::kRaw;
        size_t payload_bytes = 0;
    };
    // pack(), or else a copy; `raw` may be empty.
    Encoded compress(std::span<const std::byte> raw, std::span<std::byte> out);

    // The raw bytes of a payload, whatever the peer sent as one: `payload` itself when it is raw,
    // else a buffer of this codec that is valid until the next call. Errors: InvalidArgument when
    // the payload does not decode to exactly `raw_bytes` (≤ 2 MiB).
    absl::StatusOr<std::span<const std::byte>> decompress(PageCodec codec,
                                                          std::span<const std::byte> payload,
                                                          size_t raw_bytes);

  private:
    std::unique_ptr<std::byte[]> state_;    // of LZ4's compressor
    std::unique_ptr<std::byte[]> decoded_;  // kChunkBytes
};

}  // namespace godwit
