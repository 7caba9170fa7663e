#include "transport/codec/chunk_codec.h"

#include <fmt/format.h>
#include <lz4.h>

// Contexts in memory that we give: they never allocate, and know no format from before zstd 1.0.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

#include <cstring>

#include "engine/base/check.h"

namespace godwit {
namespace {

// LZ4's default. 8 takes 14 % less time for text and makes 25 % more of it (1.34 ns/B to 0.28,
// 1.15 to 0.35): worse wherever the link is slow enough for packing.
constexpr int kAcceleration = 1;

// Of text, in multiples of lz4's time (which leaves 0.440): -5 takes 1.79 and leaves 0.343, -3 1.61
// and 0.325, -1 1.87 and 0.308, 1 1.90 and 0.277, 3 2.50 and 0.263; of scattered deltas 3 takes
// 10.7, 1 2.3. (bench/micro, zstd_level, beside other work.)
constexpr int kZstdLevel = 1;

// As ZSTD_initStatic*Ctx want their memory.
constexpr size_t kZstdAlignment = 8;

size_t zstd_packer_bytes() {
    return (ZSTD_estimateCCtxSize(kZstdLevel) + kZstdAlignment - 1) / kZstdAlignment *
           kZstdAlignment;
}

const char* lz4_bytes(const std::byte* bytes) { return reinterpret_cast<const char*>(bytes); }
char* lz4_bytes(std::byte* bytes) { return reinterpret_cast<char*>(bytes); }

}  // namespace

size_t ChunkCodec::memory_bytes() {
    return static_cast<size_t>(LZ4_sizeofState()) + zstd_packer_bytes() + ZSTD_estimateDCtxSize() +
           kChunkBytes;
}

ChunkCodec::ChunkCodec()
    : lz4_state_(std::make_unique<std::byte[]>(static_cast<size_t>(LZ4_sizeofState()))),
      zstd_state_(std::make_unique<std::byte[]>(zstd_packer_bytes() + ZSTD_estimateDCtxSize())),
      zstd_packer_(ZSTD_initStaticCCtx(zstd_state_.get(), zstd_packer_bytes())),
      zstd_unpacker_(
          ZSTD_initStaticDCtx(zstd_state_.get() + zstd_packer_bytes(), ZSTD_estimateDCtxSize())),
      decoded_(std::make_unique<std::byte[]>(kChunkBytes)) {
    GODWIT_CHECK(zstd_packer_ != nullptr && zstd_unpacker_ != nullptr);
}

std::optional<size_t> ChunkCodec::pack(PageCodec codec, std::span<const std::byte> raw,
                                       std::span<std::byte> out) {
    GODWIT_CHECK(codec != PageCodec::kRaw);
    GODWIT_CHECK(!raw.empty() && raw.size() <= kChunkBytes && out.size() >= raw.size());
    // Both give up as soon as the result would not fit.
    const size_t limit = raw.size() - raw.size() / 16;
    if (codec == PageCodec::kZstd) {
        const size_t packed =
            ZSTD_compressCCtx(zstd_packer_, out.data(), limit, raw.data(), raw.size(), kZstdLevel);
        if (ZSTD_isError(packed) != 0) return std::nullopt;
        return packed;
    }
    const int packed = LZ4_compress_fast_extState(
        lz4_state_.get(), lz4_bytes(raw.data()), lz4_bytes(out.data()),
        static_cast<int>(raw.size()), static_cast<int>(limit), kAcceleration);
    if (packed <= 0) return std::nullopt;
    return static_cast<size_t>(packed);
}

ChunkCodec::Encoded ChunkCodec::compress(PageCodec codec, std::span<const std::byte> raw,
                                         std::span<std::byte> out) {
    if (raw.empty()) return {PageCodec::kRaw, 0};
    if (const auto packed = pack(codec, raw, out)) return {codec, *packed};
    std::memcpy(out.data(), raw.data(), raw.size());
    return {PageCodec::kRaw, raw.size()};
}

bool ChunkCodec::unpack(PageCodec codec, std::span<const std::byte> payload, size_t raw_bytes) {
    if (codec == PageCodec::kZstd) {
        // What a frame says of its window is of no account: all of it is decoded at once, with
        // `decoded_` as its window.
        if (ZSTD_getFrameContentSize(payload.data(), payload.size()) != raw_bytes) return false;
        const size_t unpacked = ZSTD_decompressDCtx(zstd_unpacker_, decoded_.get(), raw_bytes,
                                                    payload.data(), payload.size());
        return ZSTD_isError(unpacked) == 0 && unpacked == raw_bytes;
    }
    const int unpacked =
        LZ4_decompress_safe(lz4_bytes(payload.data()), lz4_bytes(decoded_.get()),
                            static_cast<int>(payload.size()), static_cast<int>(raw_bytes));
    return unpacked >= 0 && static_cast<size_t>(unpacked) == raw_bytes;
}

absl::StatusOr<std::span<const std::byte>> ChunkCodec::decompress(
    PageCodec codec, std::span<const std::byte> payload, size_t raw_bytes) {
    if (raw_bytes > kChunkBytes || payload.size() > kChunkBytes)
        return absl::InvalidArgumentError("a payload of more than a chunk");
    if (codec == PageCodec::kRaw) {
        if (payload.size() == raw_bytes) return payload;
        return absl::InvalidArgumentError(
            fmt::format("a raw payload of {} bytes instead of {}", payload.size(), raw_bytes));
    }
    if (!unpack(codec, payload, raw_bytes))
        return absl::InvalidArgumentError(
            fmt::format("{} payload does not decode to {} bytes",
                        codec == PageCodec::kZstd ? "a zstd" : "an lz4", raw_bytes));
    return std::span<const std::byte>(decoded_.get(), raw_bytes);
}

}  // namespace godwit
