// lz4 and zstd payloads that nobody made, what is packed and unpacked again, and deltas: the XOR of
// what the cache holds and what is sent must bring the destination's page to the new content.
#include "transport/codec/chunk_codec.h"

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/hash.h"
#include "tests/fuzz/target.h"
#include "transport/codec/delta_cache.h"
#include "transport/codec/xor_page.h"

namespace godwit {
namespace {

ChunkCodec& codec() {
    static ChunkCodec one;
    return one;
}

void unpack(FuzzInputReader& input) {
    const size_t raw_bytes = size_t{input.u16()} * 64;  // more than a chunk at its most
    const auto payload = input.rest();
    for (const PageCodec kind : {PageCodec::kRaw, PageCodec::kLz4, PageCodec::kZstd}) {
        const auto raw = codec().decompress(kind, payload, raw_bytes);
        if (raw.ok()) GODWIT_CHECK(raw->size() == raw_bytes && raw_bytes <= kChunkBytes);
    }
}

void pack(FuzzInputReader& input) {
    // Repeated, for what is near the largest.
    const size_t times = 1 + input.u8() % 64;
    const auto part = input.rest();
    std::vector<std::byte> raw;
    for (size_t i = 0; i < times && raw.size() + part.size() <= kChunkBytes; ++i)
        raw.insert(raw.end(), part.begin(), part.end());
    std::vector<std::byte> packed(raw.size());
    for (const PageCodec kind : {PageCodec::kLz4, PageCodec::kZstd}) {
        const ChunkCodec::Encoded encoded = codec().compress(kind, raw, packed);
        GODWIT_CHECK(encoded.payload_bytes <= raw.size());
        const auto back = codec().decompress(
            encoded.codec, std::span(packed).first(encoded.payload_bytes), raw.size());
        GODWIT_CHECK(back.ok() && std::equal(back->begin(), back->end(), raw.begin(), raw.end()));
    }
}

using Page = std::array<std::byte, kPageBytes>;

// What the destination has of a page, and the source's hash of it.
struct Sent {
    Page content{};
    Hash128 hash;
};

void send(FuzzInputReader& input, DeltaCache& cache, std::map<PageIndex, Sent>& destination) {
    const PageIndex page = input.u8() % 16;
    Sent& there = destination[page];
    Page now = there.content;
    for (size_t changes = input.u8() % 8; changes > 0; --changes) {
        const size_t at = input.u16() % kPageBytes;
        const auto bytes = input.bytes(input.u8());
        std::copy_n(bytes.begin(), std::min(bytes.size(), kPageBytes - at), now.begin() + at);
    }
    const Hash128 hash = hash_bytes(now);
    if (const std::byte* known = cache.find(0, page, there.hash); known != nullptr)
        GODWIT_CHECK(std::equal(there.content.begin(), there.content.end(), known));
    alignas(64) Page wire = now;
    if (cache.exchange(0, page, {.sent = there.hash, .now = hash}, wire))
        xor_page(there.content, wire);
    else
        there.content = wire;
    GODWIT_CHECK(there.content == now);
    there.hash = hash;
}

void delta(FuzzInputReader& input) {
    auto cache = DeltaCache::create((1 + input.u8() % 8) * kPageBytes);
    GODWIT_CHECK(cache.ok());
    std::map<PageIndex, Sent> destination;
    for (int step = 0; step < 64 && !input.empty(); ++step) {
        switch (input.u8() % 8) {
            case 0:
                cache->begin_round();
                break;
            case 1: {
                const PageIndex first = input.u8() % 16;
                cache->forget(0, {first, first + input.u8() % 16});
                break;
            }
            case 2:  // sent as zeros, or lost: without the cache's knowing
                destination[input.u8() % 16] = {};
                break;
            default:
                send(input, *cache, destination);
        }
        GODWIT_CHECK(cache->page_count() <= cache->capacity_pages());
    }
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    godwit::FuzzInputReader input(data, size);
    switch (input.u8() % 3) {
        case 0:
            godwit::unpack(input);
            break;
        case 1:
            godwit::pack(input);
            break;
        default:
            godwit::delta(input);
    }
    return 0;
}
