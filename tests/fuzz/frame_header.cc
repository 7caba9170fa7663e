// The 64 bytes in front of a frame, and the greeting of a stream. Checksums would keep a fuzzer
// out, so each input is tried as it is and once more with the right ones.
#include "transport/frame/frame_header.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <vector>

#include "engine/base/check.h"
#include "engine/base/hash.h"
#include "tests/fuzz/target.h"
#include "transport/stream/handshake.h"

namespace godwit {
namespace {

void put_u64(std::span<std::byte> at, uint64_t value) { std::memcpy(at.data(), &value, 8); }

void stamp_header(std::span<std::byte, kFrameHeaderBytes> bytes) {
    put_u64(bytes.subspan<56, 8>(), checksum_bytes(bytes.first<56>()));
}

void decode(std::span<const std::byte, kFrameHeaderBytes> bytes, std::span<const std::byte> body) {
    const auto header = decode_header(bytes);
    if (!header.ok()) {
        GODWIT_CHECK(!header.status().message().empty());
        return;
    }
    const BodyBound bound = body_bound(header->kind);
    GODWIT_CHECK(header->body_bytes >= bound.min_bytes && header->body_bytes <= bound.max_bytes);
    GODWIT_CHECK(frame_kind_name(header->kind) != "unknown");
    std::array<std::byte, kFrameHeaderBytes> again{};
    encode_header(*header, again);
    GODWIT_CHECK(std::equal(again.begin(), again.end(), bytes.begin()));
    GODWIT_CHECK(check_route(*header, header->route, header->sequence).ok());
    FrameHeader fitting = *header;
    fitting.body_bytes = static_cast<uint32_t>(body.size());
    fitting.body_checksum =
        body.size() <= kMaxPagesBodyBytes ? checksum_body(header->kind, body) : 0;
    GODWIT_CHECK(check_body(fitting, body).ok());
    ++fitting.body_checksum;
    GODWIT_CHECK(!check_body(fitting, body).ok());
}

void greet(std::span<std::byte, kHelloFrameBytes> bytes) {
    const HelloExpectation expected{.stream_count = 3};
    const auto stream = check_hello(bytes, expected);
    if (stream.ok()) GODWIT_CHECK(*stream < expected.stream_count);
    const auto body = bytes.subspan<kFrameHeaderBytes>();
    put_u64(bytes.subspan<48, 8>(), checksum_body(FrameKind::kHello, body));
    stamp_header(bytes.first<kFrameHeaderBytes>());
    const auto stamped = check_hello(bytes, expected);
    if (!stamped.ok()) return;
    GODWIT_CHECK(*stamped < expected.stream_count);
    GODWIT_CHECK(std::equal(body.begin(), body.end(), expected.token.begin()));
}

}  // namespace
}  // namespace godwit

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace godwit;
    if (size < kFrameHeaderBytes) return 0;
    const auto input = FuzzInputReader(data, size).rest();
    std::array<std::byte, kFrameHeaderBytes> header{};
    std::copy_n(input.begin(), header.size(), header.begin());
    const auto body = input.subspan(header.size());
    decode(header, body);
    stamp_header(header);
    decode(header, body);
    if (body.size() < sizeof(SessionToken)) return 0;
    std::array<std::byte, kHelloFrameBytes> hello{};
    std::copy_n(input.begin(), hello.size(), hello.begin());
    greet(hello);
    return 0;
}
