#include "transport/frame/bodies.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "engine/base/check.h"
#include "engine/base/printable.h"
#include "transport/frame/byte_io.h"

namespace godwit {
namespace {

// A vector of exactly `size` bytes that `write` fills.
template <typename Write>
FrameBytes encode_body(size_t size, const Write& write) {
    FrameBytes bytes(size);
    ByteWriter writer(bytes);
    write(writer);
    GODWIT_CHECK(writer.ok() && writer.written() == size);
    return bytes;
}

absl::Status check_length(const ByteReader& reader, const char* what) {
    if (reader.ended()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("the body of a {} frame is too {}", what, reader.ok() ? "long" : "short"));
}

absl::Status check_chunks(BlockIndex block, ChunkIndex first, uint64_t count,
                          std::span<const uint64_t> chunk_counts) {
    if (count == 0 || count > kMaxVerifyChunks)
        return absl::InvalidArgumentError(
            fmt::format("{} chunks to verify, outside 1 to {}", count, kMaxVerifyChunks));
    if (block >= chunk_counts.size() || first >= chunk_counts[block] ||
        count > chunk_counts[block] - first)
        return absl::InvalidArgumentError(
            fmt::format("{} chunks from {} of RAM block {} to verify: there are none such", count,
                        first, block));
    return absl::OkStatus();
}

}  // namespace

bool equal_tokens(const SessionToken& a, const SessionToken& b) {
    // volatile: the loop must not end at the first difference.
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < a.size(); ++i)
        difference = static_cast<uint8_t>(difference | std::to_integer<uint8_t>(a[i] ^ b[i]));
    return difference == 0;
}

FrameBytes HelloBody::encode() const {
    return encode_body(token.size(), [&](ByteWriter& out) { out.copy(token); });
}

absl::StatusOr<HelloBody> HelloBody::decode(std::span<const std::byte> body) {
    ByteReader reader(body);
    HelloBody hello;
    reader.copy(hello.token);
    GODWIT_RETURN_IF_ERROR(check_length(reader, "hello"));
    return hello;
}

FrameBytes MarkerBody::encode() const {
    return encode_body(4, [&](ByteWriter& out) { out.u32(round); });
}

absl::StatusOr<MarkerBody> MarkerBody::decode(std::span<const std::byte> body) {
    ByteReader reader(body);
    MarkerBody marker{.round = reader.u32()};
    GODWIT_RETURN_IF_ERROR(check_length(reader, "marker"));
    return marker;
}

FrameBytes MarkerAckBody::encode() const {
    return encode_body(6, [&](ByteWriter& out) {
        out.u32(round);
        out.u16(stream);
    });
}

absl::StatusOr<MarkerAckBody> MarkerAckBody::decode(std::span<const std::byte> body) {
    ByteReader reader(body);
    MarkerAckBody ack;
    ack.round = reader.u32();
    ack.stream = reader.u16();
    GODWIT_RETURN_IF_ERROR(check_length(reader, "marker-ack"));
    return ack;
}

FrameBytes DeviceStateEndBody::encode() const {
    return encode_body(8, [&](ByteWriter& out) { out.u64(total_bytes); });
}

absl::StatusOr<DeviceStateEndBody> DeviceStateEndBody::decode(std::span<const std::byte> body) {
    ByteReader reader(body);
    DeviceStateEndBody end{.total_bytes = reader.u64()};
    GODWIT_RETURN_IF_ERROR(check_length(reader, "device-state-end"));
    return end;
}

FrameBytes TextBody::encode() const {
    const auto bytes = std::as_bytes(std::span<const char>(text));
    const auto kept = bytes.first(std::min<size_t>(bytes.size(), kMaxTextBytes));
    return {kept.begin(), kept.end()};
}

absl::StatusOr<TextBody> TextBody::decode(std::span<const std::byte> body) {
    if (body.size() > kMaxTextBytes)
        return absl::InvalidArgumentError("the body of a text frame is too long");
    const std::string_view text(reinterpret_cast<const char*>(body.data()), body.size());
    return TextBody{.text = printable(text, kMaxTextBytes)};
}

FrameBytes VerifyChunksBody::encode() const {
    return encode_body(12 + 16 * hashes.size(), [&](ByteWriter& out) {
        out.u32(block);
        out.u64(first_chunk);
        for (const Hash128& hash : hashes) {
            out.u64(hash.low);
            out.u64(hash.high);
        }
    });
}

absl::StatusOr<VerifyChunksBody> VerifyChunksBody::decode(std::span<const std::byte> body,
                                                          std::span<const uint64_t> chunk_counts) {
    ByteReader reader(body);
    VerifyChunksBody chunks;
    chunks.block = reader.u32();
    chunks.first_chunk = reader.u64();
    const size_t count = reader.remaining() / 16;
    GODWIT_RETURN_IF_ERROR(check_chunks(chunks.block, chunks.first_chunk, count, chunk_counts));
    chunks.hashes.resize(count);
    for (Hash128& hash : chunks.hashes) {
        hash.low = reader.u64();
        hash.high = reader.u64();
    }
    GODWIT_RETURN_IF_ERROR(check_length(reader, "verify-chunks"));
    return chunks;
}

FrameBytes VerifyResultBody::encode() const {
    return encode_body(16 + 8 * different.size(), [&](ByteWriter& out) {
        out.u32(block);
        out.u64(first_chunk);
        out.u32(chunk_count);
        for (const ChunkIndex chunk : different) out.u64(chunk);
    });
}

absl::StatusOr<VerifyResultBody> VerifyResultBody::decode(std::span<const std::byte> body,
                                                          std::span<const uint64_t> chunk_counts) {
    ByteReader reader(body);
    VerifyResultBody result;
    result.block = reader.u32();
    result.first_chunk = reader.u64();
    result.chunk_count = reader.u32();
    GODWIT_RETURN_IF_ERROR(
        check_chunks(result.block, result.first_chunk, result.chunk_count, chunk_counts));
    const size_t count = reader.remaining() / 8;
    if (count > result.chunk_count)
        return absl::InvalidArgumentError("more chunks differ than were verified");
    ChunkIndex next = result.first_chunk;
    for (size_t i = 0; i < count; ++i) {
        const ChunkIndex chunk = reader.u64();
        if (chunk < next || chunk - result.first_chunk >= result.chunk_count)
            return absl::InvalidArgumentError(
                fmt::format("chunk {} differs, which was not verified or is out of order", chunk));
        next = chunk + 1;
        result.different.push_back(chunk);
    }
    GODWIT_RETURN_IF_ERROR(check_length(reader, "verify-result"));
    return result;
}

FrameBytes VerifyPagesBody::encode() const {
    return encode_body(12 + 16 * hashes.size(), [&](ByteWriter& out) {
        out.u32(block);
        out.u64(chunk);
        for (const Hash128& hash : hashes) {
            out.u64(hash.low);
            out.u64(hash.high);
        }
    });
}

absl::StatusOr<VerifyPagesBody> VerifyPagesBody::decode(std::span<const std::byte> body,
                                                        std::span<const uint64_t> chunk_counts) {
    ByteReader reader(body);
    VerifyPagesBody pages;
    pages.block = reader.u32();
    pages.chunk = reader.u64();
    GODWIT_RETURN_IF_ERROR(check_chunks(pages.block, pages.chunk, 1, chunk_counts));
    for (Hash128& hash : pages.hashes) {
        hash.low = reader.u64();
        hash.high = reader.u64();
    }
    GODWIT_RETURN_IF_ERROR(check_length(reader, "verify-pages"));
    return pages;
}

FrameBytes VerifyPagesResultBody::encode() const {
    return encode_body(8 * different.size(), [&](ByteWriter& out) {
        for (const uint64_t word : different) out.u64(word);
    });
}

absl::StatusOr<VerifyPagesResultBody> VerifyPagesResultBody::decode(
    std::span<const std::byte> body) {
    ByteReader reader(body);
    VerifyPagesResultBody result;
    for (uint64_t& word : result.different) word = reader.u64();
    GODWIT_RETURN_IF_ERROR(check_length(reader, "verify-pages-result"));
    return result;
}

namespace {

void write_chunk_pages(ByteWriter& out, const ChunkPages& entry) {
    out.u32(entry.block);
    out.u64(entry.chunk);
    for (const uint64_t word : entry.pages) out.u64(word);
}

absl::StatusOr<ChunkPages> read_chunk_pages(ByteReader& reader,
                                            std::span<const uint64_t> chunk_counts) {
    ChunkPages entry{.block = reader.u32(), .chunk = reader.u64()};
    for (uint64_t& word : entry.pages) word = reader.u64();
    if (entry.block >= chunk_counts.size() || entry.chunk >= chunk_counts[entry.block])
        return absl::InvalidArgumentError(
            fmt::format("RAM block {} has no chunk {}", entry.block, entry.chunk));
    if (count_pages(entry.pages) == 0)
        return absl::InvalidArgumentError("a chunk is listed without any page");
    return entry;
}

}  // namespace

FrameBytes encode_chunk_pages(std::span<const ChunkPages> list) {
    return encode_body(ChunkPages::kBytes * list.size(), [&](ByteWriter& out) {
        for (const ChunkPages& entry : list) write_chunk_pages(out, entry);
    });
}

absl::StatusOr<std::vector<ChunkPages>> decode_chunk_pages(std::span<const std::byte> body,
                                                           std::span<const uint64_t> chunk_counts,
                                                           size_t limit) {
    if (body.empty() || body.size() % ChunkPages::kBytes != 0 ||
        body.size() / ChunkPages::kBytes > limit)
        return absl::InvalidArgumentError(
            fmt::format("a list of chunks of {} bytes, not 1 to {} times {}", body.size(), limit,
                        ChunkPages::kBytes));
    ByteReader reader(body);
    std::vector<ChunkPages> list(body.size() / ChunkPages::kBytes);
    for (ChunkPages& entry : list) {
        GODWIT_ASSIGN_OR_RETURN(entry, read_chunk_pages(reader, chunk_counts));
    }
    GODWIT_RETURN_IF_ERROR(check_length(reader, "chunk list"));
    return list;
}

FrameBytes DamagedBody::encode() const {
    return encode_body(2 + ChunkPages::kBytes, [&](ByteWriter& out) {
        out.u16(stream);
        write_chunk_pages(out, pages);
    });
}

absl::StatusOr<DamagedBody> DamagedBody::decode(std::span<const std::byte> body,
                                                std::span<const uint64_t> chunk_counts) {
    if (body.size() != 2 + ChunkPages::kBytes)
        return absl::InvalidArgumentError(
            fmt::format("a damaged body of {} bytes, not {}", body.size(), 2 + ChunkPages::kBytes));
    ByteReader reader(body);
    DamagedBody damaged{.stream = reader.u16()};
    GODWIT_ASSIGN_OR_RETURN(damaged.pages, read_chunk_pages(reader, chunk_counts));
    GODWIT_RETURN_IF_ERROR(check_length(reader, "damaged"));
    return damaged;
}

std::array<std::byte, PageRequestBody::kBytes> PageRequestBody::encode() const {
    std::array<std::byte, kBytes> bytes{};
    ByteWriter writer(bytes);
    writer.u32(block);
    writer.u64(page);
    return bytes;
}

absl::StatusOr<PageRequestBody> PageRequestBody::decode(std::span<const std::byte> body,
                                                        std::span<const uint64_t> chunk_counts) {
    ByteReader reader(body);
    PageRequestBody request;
    request.block = reader.u32();
    request.page = reader.u64();
    GODWIT_RETURN_IF_ERROR(check_length(reader, "page-request"));
    if (request.block >= chunk_counts.size() ||
        request.page / kPagesPerChunk >= chunk_counts[request.block])
        return absl::InvalidArgumentError(
            fmt::format("RAM block {} has no page {}", request.block, request.page));
    return request;
}

FrameBytes PingBody::encode() const {
    return encode_body(8, [&](ByteWriter& out) { out.u64(nonce); });
}

absl::StatusOr<PingBody> PingBody::decode(std::span<const std::byte> body) {
    ByteReader reader(body);
    PingBody ping{.nonce = reader.u64()};
    GODWIT_RETURN_IF_ERROR(check_length(reader, "ping"));
    return ping;
}

}  // namespace godwit
