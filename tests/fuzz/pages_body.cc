// Pages of a chunk, from the frame's body to memory. Each input is tried as it is, with the
// checksum of its head made right, and with masks and length made to fit each other.
#include "transport/frame/pages_body.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/base/check.h"
#include "tests/fuzz/target.h"
#include "transport/codec/chunk_codec.h"
#include "transport/codec/xor_page.h"
#include "transport/frame/frame_header.h"

namespace godwit {
namespace {

constexpr std::array<uint64_t, 2> kChunks{4, 1000};
using Body = std::span<std::byte>;

uint64_t word_at(Body body, size_t at) {
    uint64_t word = 0;
    std::memcpy(&word, body.data() + at, sizeof word);
    return word;
}
void put_word(Body body, size_t at, uint64_t word) {
    std::memcpy(body.data() + at, &word, sizeof word);
}

void stamp(Body body) {
    put_word(body, kPagesHeadBytes - 8, checksum_bytes(body.first(kPagesHeadBytes - 8)));
}

// zero ⊆ present, delta ⊆ filled, raw_bytes as many as there are, and a block and chunk that exist.
void make_fit(Body body) {
    uint32_t filled_count = 0;
    for (size_t at = 16; at < 80; at += 8) {
        const uint64_t present = word_at(body, at);
        const uint64_t zero = word_at(body, at + 64) & present;
        put_word(body, at + 64, zero);
        put_word(body, at + 128, word_at(body, at + 128) & present & ~zero);
        filled_count += static_cast<uint32_t>(std::popcount(present & ~zero));
    }
    const auto raw_bytes = filled_count * static_cast<uint32_t>(kPageBytes);
    std::memcpy(body.data() + 4, &raw_bytes, sizeof raw_bytes);
    const uint32_t block = std::to_integer<uint32_t>(body[0]) % 2;
    std::memcpy(body.data(), &block, sizeof block);
    put_word(body, 8, word_at(body, 8) % kChunks[block]);
    for (size_t at = 208; at < kPagesHeadBytes - 8; ++at) body[at] &= std::byte{at == 208};
}

// As the destination does it, with memory in place of a file.
void apply(const PagesBody& pages, std::span<const std::byte> raw) {
    static std::vector<std::byte> chunk(kChunkBytes);
    for_each_run(pages.filled(), [&](PageRange run) {
        GODWIT_CHECK(run.begin < run.end && run.end <= kPagesPerChunk);
        for (PageIndex page = run.begin; page < run.end; ++page) {
            GODWIT_CHECK(raw.size() >= kPageBytes);
            const auto place = std::span(chunk).subspan(page * kPageBytes).first<kPageBytes>();
            const auto bytes = raw.first<kPageBytes>();
            raw = raw.subspan(kPageBytes);
            if ((pages.delta[page / 64] >> page % 64 & 1) != 0)
                xor_page(place, bytes);
            else
                std::copy(bytes.begin(), bytes.end(), place.begin());
        }
    });
    GODWIT_CHECK(raw.empty());
}

void decode(std::span<const std::byte> body, DeltaPages deltas) {
    const auto pages = decode_pages(body, kChunks, deltas);
    if (!pages.ok()) return;
    GODWIT_CHECK(pages->chunk < kChunks[pages->block] && count_pages(pages->present) > 0);
    GODWIT_CHECK(pages->raw_bytes == count_pages(pages->filled()) * kPageBytes);
    GODWIT_CHECK(pages->payload.size() <= pages->raw_bytes && pages->raw_bytes <= kChunkBytes);
    if (deltas == DeltaPages::kRefused) GODWIT_CHECK(count_pages(pages->delta) == 0);
    std::array<std::byte, kPagesHeadBytes> again{};
    encode_pages_head(*pages, again);
    GODWIT_CHECK(std::equal(again.begin(), again.end() - 8, body.begin()));
    static ChunkCodec codec;
    const auto raw = codec.decompress(pages->codec, pages->payload, pages->raw_bytes);
    if (!raw.ok()) return;
    GODWIT_CHECK(raw->size() == pages->raw_bytes);
    apply(*pages, *raw);
}

void take(std::span<const std::byte> body) {
    decode(body, DeltaPages::kAccepted);
    decode(body, DeltaPages::kRefused);
    const auto damaged = decode_damaged_pages(body, kChunks);
    if (!damaged.ok()) return;
    GODWIT_CHECK(damaged->chunk < kChunks[damaged->block]);
    for_each_run(damaged->present, [](PageRange run) { GODWIT_CHECK(run.end <= kPagesPerChunk); });
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    const auto input = FuzzInputReader(data, size).rest();
    (void)checksum_pages(input);
    take(input);
    if (size < kPagesHeadBytes) return 0;
    std::vector<std::byte> body(input.begin(), input.end());
    stamp(body);
    take(body);
    make_fit(body);
    stamp(body);
    take(body);
    return 0;
}
