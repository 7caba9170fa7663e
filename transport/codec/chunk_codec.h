// ChunkCodec: lz4 or zstd over the pages of a chunk, one after another, and back.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <span>

#include "engine/base/status.h"
#include "transport/frame/pages_body.h"

struct ZSTD_CCtx_s;
struct ZSTD_DCtx_s;

namespace godwit {

// Not thread-safe: one per stream and direction. Allocates only when it is made, memory_bytes():
// at most kMostMemoryBytes, whatever it packs and whatever a peer sends.
class ChunkCodec {
  public:
    ChunkCodec();

    static constexpr size_t kMostMemoryBytes = size_t{4} << 20;
    [[nodiscard]] static size_t memory_bytes();

    // `raw` (≤ 2 MiB, not empty) by `codec` (not kRaw) at the front of `out` (≥ raw.size(), no
    // overlap): its size, or nothing when it does not save at least 1/16. What `out` holds behind
    // it is undefined.
    std::optional<size_t> pack(PageCodec codec, std::span<const std::byte> raw,
                               std::span<std::byte> out);

    struct Encoded {
        PageCodec codec = PageCodec::kRaw;
        size_t payload_bytes = 0;
    };
    // pack(), or else a copy; `raw` may be empty.
    Encoded compress(PageCodec codec, std::span<const std::byte> raw, std::span<std::byte> out);

    // The raw bytes of a payload, whatever the peer sent as one: `payload` itself when it is raw,
    // else a buffer of this codec that is valid until the next call. Never writes more than
    // `raw_bytes`. Errors: InvalidArgument when the payload does not decode to exactly `raw_bytes`
    // (≤ 2 MiB), or wants a dictionary.
    absl::StatusOr<std::span<const std::byte>> decompress(PageCodec codec,
                                                          std::span<const std::byte> payload,
                                                          size_t raw_bytes);

  private:
    [[nodiscard]] bool unpack(PageCodec codec, std::span<const std::byte> payload,
                              size_t raw_bytes);

    std::unique_ptr<std::byte[]> lz4_state_;   // of the compressor
    std::unique_ptr<std::byte[]> zstd_state_;  // of the compressor, then of the decompressor
    ZSTD_CCtx_s* zstd_packer_ = nullptr;       // in zstd_state_
    ZSTD_DCtx_s* zstd_unpacker_ = nullptr;
    std::unique_ptr<std::byte[]> decoded_;  // kChunkBytes
};

}  // namespace godwit
