// ChunkCodec: lz4 over the pages of a chunk, one after another, and back.
#pragma once

#include <cstddef>
#include <memory>
#include <span>

#include "engine/base/status.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Not thread-safe: one per stream and direction. Allocates only when it is made.
class ChunkCodec {
  public:
    ChunkCodec();

    struct Encoded {
        PageCodec codec = PageCodec::kRaw;
        size_t payload_bytes = 0;
    };
    // Encodes `raw` (≤ 2 MiB) to the front of `out` (≥ raw.size(), no overlap). Falls back to a
    // copy when lz4 does not save at least 1/16.
    Encoded compress(std::span<const std::byte> raw, std::span<std::byte> out);

    // The raw bytes of a payload: `payload` itself when it is raw, else a buffer of this codec that
    // is valid until the next call. Errors: InvalidArgument when the payload does not decode to
    // exactly `raw_bytes` (≤ 2 MiB).
    absl::StatusOr<std::span<const std::byte>> decompress(PageCodec codec,
                                                          std::span<const std::byte> payload,
                                                          size_t raw_bytes);

  private:
    std::unique_ptr<std::byte[]> state_;    // of LZ4's compressor
    std::unique_ptr<std::byte[]> decoded_;  // kChunkBytes
};

}  // namespace godwit
