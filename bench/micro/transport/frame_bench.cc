// Frames around the pages: heads, checksums, and the masks that say which pages they hold.
#include <cstring>
#include <random>
#include <vector>

#include "bench/micro/transport/against.h"
#include "bench/micro/transport/samples.h"
#include "transport/frame/frame_header.h"
#include "transport/frame/pages_body.h"

namespace godwit::bench {
namespace {

constexpr size_t kFrameBytes = kFrameHeaderBytes + kPagesHeadBytes + kChunkBytes;
constexpr size_t kFrames = 64;

PagesBody whole_chunk() {
    PagesBody pages{.raw_bytes = kChunkBytes};
    pages.present.fill(~uint64_t{0});
    return pages;
}

// Head, checksum and header around a payload that is there.
void encode(std::span<std::byte> frame) {
    const auto body = frame.subspan(kFrameHeaderBytes);
    encode_pages_head(whole_chunk(), body.first<kPagesHeadBytes>());
    encode_header({.kind = FrameKind::kPages,
                   .body_bytes = static_cast<uint32_t>(body.size()),
                   .body_checksum = checksum_body(FrameKind::kPages, body)},
                  frame.first<kFrameHeaderBytes>());
}

bool decode(std::span<const std::byte> frame) {
    static constexpr uint64_t kChunkCounts[] = {1};
    const auto header = decode_header(frame.first<kFrameHeaderBytes>());
    const auto body = frame.subspan(kFrameHeaderBytes);
    return header.ok() && check_body(*header, body).ok() && decode_pages(body, kChunkCounts).ok();
}

// In a buffer of frames far larger than the caches, and in one that was just filled.
void frame(benchmark::State& state, bool encoding, bool cached) {
    static std::vector<std::byte> buffer = [] {
        std::vector<std::byte> made(kFrames * kFrameBytes, std::byte{7});
        for (size_t i = 0; i < kFrames; ++i)
            encode(std::span(made).subspan(i * kFrameBytes, kFrameBytes));
        return made;
    }();
    const auto place = [&](size_t n) {
        return std::span(buffer).subspan((cached ? 0 : n % kFrames) * kFrameBytes, kFrameBytes);
    };
    run(state, {.work =
                    [&](size_t n) {
                        if (encoding)
                            encode(place(n));
                        else if (!decode(place(n)))
                            state.SkipWithError("a frame does not decode");
                    },
                .limit =
                    [&](size_t n) {
                        const auto from = place(n + kFrames / 2);
                        std::memcpy(staging(n).data(), from.data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kFrameBytes});
}

// From the bitmap of a round to the runs of every chunk; the limit adds up the same words.
void masks(benchmark::State& state) {
    constexpr uint64_t kPages = uint64_t{1} << 22;  // 16 GiB of guest
    PageBitmap bitmap(kPages);
    std::mt19937_64 random(1);
    for (uint64_t left = kPages / 1000 * static_cast<uint64_t>(state.range(0)); left > 0; --left)
        bitmap.set(random() % kPages);
    run(state, {.work =
                    [&](size_t) {
                        uint64_t sum = 0;
                        for (PageIndex page = bitmap.next_set(0); page < kPages;) {
                            const ChunkIndex chunk = page / kPagesPerChunk;
                            for_each_run(chunk_mask(bitmap, chunk),
                                         [&](PageRange range) { sum += range.begin; });
                            page = bitmap.next_set((chunk + 1) * kPagesPerChunk);
                        }
                        benchmark::DoNotOptimize(sum);
                    },
                .limit =
                    [&](size_t) {
                        uint64_t sum = 0;
                        for (const uint64_t word : bitmap.words()) sum += word;
                        benchmark::DoNotOptimize(sum);
                    },
                .bytes = kPages / 8});
}

BENCHMARK_CAPTURE(frame, encode, true, false)->UseManualTime();
BENCHMARK_CAPTURE(frame, encode_cached, true, true)->UseManualTime();
BENCHMARK_CAPTURE(frame, decode, false, false)->UseManualTime();
BENCHMARK_CAPTURE(frame, decode_cached, false, true)->UseManualTime();
BENCHMARK(masks)->ArgName("dirty_per_1000")->Arg(1)->Arg(10)->Arg(100)->UseManualTime();

}  // namespace
}  // namespace godwit::bench
