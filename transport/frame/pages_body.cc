#include "transport/frame/pages_body.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "engine/base/check.h"
#include "transport/frame/byte_io.h"

namespace godwit {
namespace {

constexpr size_t kReservedBytes = 39;
constexpr size_t kHeadChecksumAt = kPagesHeadBytes - sizeof(uint64_t);

// Index of the first page >= `from` whose bit is `value`, or kPagesPerChunk.
size_t next_page(const ChunkMask& mask, size_t from, bool value) {
    while (from < kPagesPerChunk) {
        const uint64_t word = (value ? mask[from / 64] : ~mask[from / 64]) >> (from % 64);
        if (word != 0) return from + static_cast<size_t>(std::countr_zero(word));
        from = (from / 64 + 1) * 64;
    }
    return kPagesPerChunk;
}

absl::Status check_place(const PagesBody& pages, std::span<const uint64_t> chunk_counts) {
    if (pages.block >= chunk_counts.size())
        return absl::InvalidArgumentError(fmt::format("pages of RAM block {}, but there are {}",
                                                      pages.block, chunk_counts.size()));
    if (pages.chunk >= chunk_counts[pages.block])
        return absl::InvalidArgumentError(
            fmt::format("pages of chunk {} of RAM block {}, which has {}", pages.chunk, pages.block,
                        chunk_counts[pages.block]));
    return absl::OkStatus();
}

bool is_subset(const ChunkMask& part, const ChunkMask& whole) {
    uint64_t outside = 0;
    for (size_t i = 0; i < part.size(); ++i) outside |= part[i] & ~whole[i];
    return outside == 0;
}

absl::Status check_masks(const PagesBody& pages, DeltaPages deltas) {
    if (count_pages(pages.present) == 0)
        return absl::InvalidArgumentError("a pages frame without a page");
    if (!is_subset(pages.zero, pages.present))
        return absl::InvalidArgumentError("a zero page that is not present");
    const ChunkMask filled = pages.filled();
    if (!is_subset(pages.delta, filled))
        return absl::InvalidArgumentError("a delta page that has no payload");
    if (deltas == DeltaPages::kRefused && count_pages(pages.delta) != 0)
        return absl::InvalidArgumentError("a delta page where there is nothing to apply it to");
    const size_t raw_bytes = count_pages(filled) * kPageBytes;
    if (pages.raw_bytes != raw_bytes)
        return absl::InvalidArgumentError(fmt::format(
            "{} raw bytes announced for pages of {} bytes", pages.raw_bytes, raw_bytes));
    return absl::OkStatus();
}

absl::Status check_payload(const PagesBody& pages) {
    const size_t size = pages.payload.size();
    const bool fits = pages.codec == PageCodec::kRaw ? size == pages.raw_bytes
                                                     : size > 0 && size < pages.raw_bytes;
    if (!fits)
        return absl::InvalidArgumentError(
            fmt::format("a payload of {} bytes for {} raw bytes", size, pages.raw_bytes));
    return absl::OkStatus();
}

}  // namespace

uint32_t count_pages(const ChunkMask& mask) {
    int count = 0;
    for (const uint64_t word : mask) count += std::popcount(word);
    return static_cast<uint32_t>(count);
}

ChunkMask chunk_mask(const PageBitmap& bitmap, ChunkIndex chunk) {
    ChunkMask mask{};
    const auto words = bitmap.words();
    const size_t first = chunk * mask.size();
    if (first >= words.size()) return mask;
    const auto own = words.subspan(first, std::min(mask.size(), words.size() - first));
    std::copy(own.begin(), own.end(), mask.begin());
    return mask;
}

ChunkMask take_pages(ChunkMask& from, uint64_t most) {
    ChunkMask taken{};
    uint64_t left = std::max<uint64_t>(most, 1);
    for (size_t i = 0; i < from.size() && left > 0; ++i) {
        taken[i] = from[i];
        for (auto count = static_cast<uint64_t>(std::popcount(taken[i])); count > left; --count)
            taken[i] &= ~std::bit_floor(taken[i]);
        from[i] &= ~taken[i];
        left -= static_cast<uint64_t>(std::popcount(taken[i]));
    }
    return taken;
}

void for_each_run(const ChunkMask& mask, const std::function<void(PageRange)>& visit) {
    for (size_t end = 0;;) {
        const size_t begin = next_page(mask, end, true);
        if (begin == kPagesPerChunk) return;
        end = next_page(mask, begin, false);
        visit({begin, end});
    }
}

ChunkMask PagesBody::filled() const {
    ChunkMask mask{};
    for (size_t i = 0; i < mask.size(); ++i) mask[i] = present[i] & ~zero[i];
    return mask;
}

void encode_pages_head(const PagesBody& pages, std::span<std::byte, kPagesHeadBytes> body) {
    ByteWriter writer(body);
    writer.u32(pages.block);
    writer.u32(pages.raw_bytes);
    writer.u64(pages.chunk);
    for (const uint64_t word : pages.present) writer.u64(word);
    for (const uint64_t word : pages.zero) writer.u64(word);
    for (const uint64_t word : pages.delta) writer.u64(word);
    writer.u8(static_cast<uint8_t>(pages.codec));
    for (size_t i = 0; i < kReservedBytes; ++i) writer.u8(0);
    writer.u64(checksum_bytes(body.first<kHeadChecksumAt>()));
    GODWIT_CHECK(writer.ok() && writer.written() == kPagesHeadBytes);
}

absl::StatusOr<PagesBody> decode_damaged_pages(std::span<const std::byte> body,
                                               std::span<const uint64_t> chunk_counts) {
    if (body.size() < kPagesHeadBytes || ByteReader(body.subspan(kHeadChecksumAt)).u64() !=
                                             checksum_bytes(body.first(kHeadChecksumAt)))
        return absl::DataLossError("the head of a pages frame is damaged");
    ByteReader reader(body);
    PagesBody pages;
    pages.block = reader.u32();
    reader.u32();
    pages.chunk = reader.u64();
    for (uint64_t& word : pages.present) word = reader.u64();
    GODWIT_RETURN_IF_ERROR(check_place(pages, chunk_counts));
    return pages;
}

uint64_t checksum_pages(std::span<const std::byte> head, std::span<const Hash128> piece_hashes) {
    std::array<Hash128, 1 + kPagesPerChunk> all;
    GODWIT_CHECK(piece_hashes.size() < all.size());
    all[0] = hash_bytes(head);
    std::copy(piece_hashes.begin(), piece_hashes.end(), all.begin() + 1);
    return checksum_hashes(std::span(all).first(1 + piece_hashes.size()));
}

uint64_t checksum_pages(std::span<const std::byte> body) {
    GODWIT_CHECK(body.size() <= kMaxPagesBodyBytes);
    const size_t head_bytes = std::min(body.size(), kPagesHeadBytes);
    std::array<Hash128, 1 + kPagesPerChunk> all;
    all[0] = hash_bytes(body.first(head_bytes));
    size_t count = 1;
    for (auto rest = body.subspan(head_bytes); !rest.empty(); ++count) {
        const size_t size = std::min<size_t>(rest.size(), kPageBytes);
        all[count] = hash_bytes(rest.first(size));
        rest = rest.subspan(size);
    }
    return checksum_hashes(std::span(all).first(count));
}

absl::StatusOr<PagesBody> decode_pages(std::span<const std::byte> body,
                                       std::span<const uint64_t> chunk_counts, DeltaPages deltas) {
    ByteReader reader(body);
    PagesBody pages;
    pages.block = reader.u32();
    pages.raw_bytes = reader.u32();
    pages.chunk = reader.u64();
    for (uint64_t& word : pages.present) word = reader.u64();
    for (uint64_t& word : pages.zero) word = reader.u64();
    for (uint64_t& word : pages.delta) word = reader.u64();
    const uint8_t codec = reader.u8();
    unsigned reserved = 0;
    for (size_t i = 0; i < kReservedBytes; ++i) reserved |= reader.u8();
    reader.u64();  // the head's checksum: the frame's covers it
    pages.payload = reader.rest();
    if (!reader.ok()) return absl::InvalidArgumentError("a pages frame that is too short");
    if (codec > static_cast<uint8_t>(PageCodec::kZstd))
        return absl::InvalidArgumentError(fmt::format("unknown page codec {}", codec));
    if (reserved != 0)
        return absl::InvalidArgumentError("a reserved field of a pages frame is not zero");
    pages.codec = static_cast<PageCodec>(codec);
    GODWIT_RETURN_IF_ERROR(check_place(pages, chunk_counts));
    GODWIT_RETURN_IF_ERROR(check_masks(pages, deltas));
    GODWIT_RETURN_IF_ERROR(check_payload(pages));
    return pages;
}

}  // namespace godwit
