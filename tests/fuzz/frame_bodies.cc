// The bodies of all frames but those that carry pages. The first byte chooses; what a decoder takes
// must encode to the same bytes, and lie in the bounds that its header names.
#include <algorithm>
#include <array>

#include "engine/base/check.h"
#include "tests/fuzz/target.h"
#include "transport/frame/bodies.h"

namespace godwit {
namespace {

constexpr std::array<uint64_t, 3> kChunks{4, 1000, uint64_t{1} << 40};

template <typename Encoded>
void check_same(const Encoded& encoded, std::span<const std::byte> body) {
    GODWIT_CHECK(std::equal(encoded.begin(), encoded.end(), body.begin(), body.end()));
}

template <typename Body>
void decode(std::span<const std::byte> bytes) {
    if (const auto body = Body::decode(bytes); body.ok()) check_same(body->encode(), bytes);
}

template <typename Body>
void decode_in_blocks(std::span<const std::byte> bytes) {
    if (const auto body = Body::decode(bytes, kChunks); body.ok())
        check_same(body->encode(), bytes);
}

void decode_text(std::span<const std::byte> bytes) {
    const auto body = TextBody::decode(bytes);
    GODWIT_CHECK(body.ok() == (bytes.size() <= kMaxTextBytes));
    if (!body.ok()) return;
    GODWIT_CHECK(body->text.size() == bytes.size());
    for (const char c : body->text)
        GODWIT_CHECK(static_cast<unsigned char>(c) >= 0x20 && c != 0x7f);
}

void check_chunk_pages(const ChunkPages& pages) {
    GODWIT_CHECK(pages.block < kChunks.size() && pages.chunk < kChunks[pages.block]);
    GODWIT_CHECK(count_pages(pages.pages) > 0);
}

void decode_list(std::span<const std::byte> bytes) {
    const auto list = decode_chunk_pages(bytes, kChunks, kMaxMissingChunks);
    if (!list.ok()) return;
    GODWIT_CHECK(!list->empty() && list->size() <= kMaxMissingChunks);
    for (const ChunkPages& pages : *list) check_chunk_pages(pages);
    check_same(encode_chunk_pages(*list), bytes);
}

void decode_verify(std::span<const std::byte> bytes) {
    decode_in_blocks<VerifyChunksBody>(bytes);
    const auto chunks = VerifyChunksBody::decode(bytes, kChunks);
    if (!chunks.ok()) return;
    GODWIT_CHECK(chunks->block < kChunks.size());
    GODWIT_CHECK(chunks->first_chunk + chunks->hashes.size() <= kChunks[chunks->block]);
}

void decode_verify_result(std::span<const std::byte> bytes) {
    decode_in_blocks<VerifyResultBody>(bytes);
    const auto result = VerifyResultBody::decode(bytes, kChunks);
    if (!result.ok()) return;
    GODWIT_CHECK(std::is_sorted(result->different.begin(), result->different.end()));
    for (const ChunkIndex chunk : result->different)
        GODWIT_CHECK(chunk >= result->first_chunk &&
                     chunk - result->first_chunk < result->chunk_count);
}

void decode_request(std::span<const std::byte> bytes) {
    const auto request = PageRequestBody::decode(bytes, kChunks);
    if (!request.ok()) return;
    GODWIT_CHECK(request->page / kPagesPerChunk < kChunks[request->block]);
    check_same(request->encode(), bytes);
}

using Decoder = void (*)(std::span<const std::byte>);
constexpr std::array<Decoder, 14> kDecoders{
    decode<HelloBody>,
    decode<MarkerBody>,
    decode<MarkerAckBody>,
    decode<DeviceStateEndBody>,
    decode_text,
    decode_verify,
    decode_verify_result,
    decode_in_blocks<VerifyPagesBody>,
    decode<VerifyPagesResultBody>,
    decode_list,
    decode_in_blocks<DamagedBody>,
    decode_request,
    decode<PingBody>,
    [](std::span<const std::byte> bytes) {
        for (size_t i = 0; i + 1 < kDecoders.size(); ++i) kDecoders[i](bytes);
    },
};

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    godwit::FuzzInputReader input(data, size);
    const size_t which = input.u8() % godwit::kDecoders.size();
    godwit::kDecoders[which](input.rest());
    return 0;
}
