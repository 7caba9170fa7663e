// lz4, zstd and deltas by kind of data.
#include <lz4.h>
#include <zstd.h>

#include <cstring>
#include <memory>
#include <random>
#include <vector>

#include "bench/micro/transport/against.h"
#include "bench/micro/transport/samples.h"
#include "transport/codec/chunk_codec.h"
#include "transport/codec/codec_governor.h"
#include "transport/codec/delta_cache.h"

namespace godwit::bench {
namespace {

constexpr PageCodec kPackers[] = {PageCodec::kLz4, PageCodec::kZstd};

const char* chars(std::span<const std::byte> bytes) {
    return reinterpret_cast<const char*>(bytes.data());
}
char* chars(std::span<std::byte> bytes) { return reinterpret_cast<char*>(bytes.data()); }

Kind kind_of(benchmark::State& state) {
    const auto kind = static_cast<Kind>(state.range(0));
    state.SetLabel(kind_name(kind));
    return kind;
}

// A whole chunk, or a sample of one as the governor takes it; against lz4 alone.
void pack(benchmark::State& state) {
    const Kind kind = kind_of(state);
    const auto bytes = static_cast<size_t>(state.range(1)) << 10;
    const auto set = sample(kind);
    const auto packer = static_cast<PageCodec>(state.range(2));
    ChunkCodec codec;
    std::vector<std::byte> out(LZ4_compressBound(static_cast<int>(kChunkBytes)));
    size_t packed_bytes = 0;
    size_t chunks = 0;
    run(state, {.work =
                    [&](size_t n) {
                        const auto packed = codec.pack(packer, chunk_of(set, n).first(bytes), out);
                        packed_bytes += packed.value_or(bytes);
                        ++chunks;
                    },
                .limit =
                    [&](size_t n) {
                        benchmark::DoNotOptimize(LZ4_compress_default(
                            chars(far_chunk_of(set, n)), chars(std::span(out)),
                            static_cast<int>(bytes), static_cast<int>(out.size())));
                    },
                .bytes = bytes});
    state.counters["packed"] =
        static_cast<double>(packed_bytes) / static_cast<double>(chunks * bytes);
}

// lz4's own knob, which ChunkCodec leaves at 1; against 1.
void acceleration(benchmark::State& state) {
    const auto set = sample(Kind::kText);
    std::vector<std::byte> out(LZ4_compressBound(static_cast<int>(kChunkBytes)));
    size_t packed_bytes = 0;
    size_t chunks = 0;
    const auto pack_chunk = [&](std::span<const std::byte> chunk, int knob) {
        return static_cast<size_t>(LZ4_compress_fast(chars(chunk), chars(std::span(out)),
                                                     static_cast<int>(chunk.size()),
                                                     static_cast<int>(out.size()), knob));
    };
    run(state,
        {.work =
             [&](size_t n) {
                 packed_bytes += pack_chunk(chunk_of(set, n), static_cast<int>(state.range(0)));
                 ++chunks;
             },
         .limit = [&](size_t n) { benchmark::DoNotOptimize(pack_chunk(far_chunk_of(set, n), 1)); },
         .bytes = kChunkBytes});
    state.counters["packed"] =
        static_cast<double>(packed_bytes) / static_cast<double>(chunks * kChunkBytes);
}

// zstd's own knob, of which ChunkCodec has one setting; against lz4 as ChunkCodec has it.
void zstd_level(benchmark::State& state) {
    const auto set = sample(kind_of(state));
    const int level = static_cast<int>(state.range(1));
    std::vector<std::byte> out(ZSTD_compressBound(kChunkBytes));
    const std::unique_ptr<ZSTD_CCtx, decltype(&ZSTD_freeCCtx)> packer(ZSTD_createCCtx(),
                                                                      ZSTD_freeCCtx);
    size_t packed_bytes = 0;
    size_t chunks = 0;
    run(state, {.work =
                    [&](size_t n) {
                        const auto chunk = chunk_of(set, n);
                        packed_bytes += ZSTD_compressCCtx(packer.get(), out.data(), out.size(),
                                                          chunk.data(), chunk.size(), level);
                        ++chunks;
                    },
                .limit =
                    [&](size_t n) {
                        benchmark::DoNotOptimize(LZ4_compress_default(
                            chars(far_chunk_of(set, n)), chars(std::span(out)),
                            static_cast<int>(kChunkBytes), static_cast<int>(out.size())));
                    },
                .bytes = kChunkBytes});
    state.counters["packed"] =
        static_cast<double>(packed_bytes) / static_cast<double>(chunks * kChunkBytes);
}

void unpack(benchmark::State& state) {
    const Kind kind = kind_of(state);
    const auto packer = static_cast<PageCodec>(state.range(1));
    const auto set = sample(kind);
    ChunkCodec codec;
    std::vector<std::vector<std::byte>> payloads(32, std::vector<std::byte>(kChunkBytes));
    for (size_t i = 0; i < payloads.size(); ++i)
        payloads[i].resize(codec.pack(packer, chunk_of(set, i), payloads[i]).value());
    run(state, {.work =
                    [&](size_t n) {
                        benchmark::DoNotOptimize(
                            codec.decompress(packer, payloads[n % payloads.size()], kChunkBytes));
                    },
                .limit =
                    [&](size_t n) {
                        std::memcpy(staging(n).data(), far_chunk_of(set, n).data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kChunkBytes});
}

PageBytes page_at(std::span<std::byte> bytes, size_t page) {
    return PageBytes(bytes.data() + page * kPageBytes, kPageBytes);
}

// A chunk of pages that the cache has, of which each changed in 64 bytes, becomes deltas; the limit
// is memcpy of what both hold.
void make_deltas(benchmark::State& state) {
    const auto set = sample(Kind::kNoise);
    DeltaCache cache = DeltaCache::create(set.size()).value();
    const Hash128 hash{.low = 1, .high = 1};
    for (size_t page = 0; page < set.size() / kPageBytes; ++page) {
        std::memcpy(staging(0).data(), page_at(set, page).data(), kPageBytes);
        benchmark::DoNotOptimize(cache.exchange(0, page, {.now = hash}, page_at(staging(0), 0)));
    }
    size_t deltas = 0;
    std::vector<std::byte> copy(kChunkBytes);
    run(state, {.work =
                    [&](size_t n) {
                        const size_t first = n * kPagesPerChunk % (set.size() / kPageBytes);
                        // What the page pass has just left in L2; copied here, and so counted.
                        for (size_t i = 0; i < kPagesPerChunk; ++i) {
                            const PageBytes page = page_at(staging(n), i);
                            std::memcpy(page.data(), page_at(set, first + i).data(), kPageBytes);
                            page[n % kPageBytes] ^= std::byte{1};
                            deltas +=
                                cache.exchange(0, first + i, {.sent = hash, .now = hash}, page) ? 1
                                                                                                : 0;
                        }
                    },
                .limit =
                    [&](size_t n) {
                        std::memcpy(staging(n).data(), far_chunk_of(set, n).data(), kChunkBytes);
                        std::memcpy(copy.data(), chunk_of(set, n + 7).data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kChunkBytes});
    if (deltas == 0) state.SkipWithError("no page became a delta");
}

void apply_deltas(benchmark::State& state) {
    const auto set = sample(Kind::kNoise);
    const auto deltas = sample(Kind::kDelta);
    run(state, {.work =
                    [&](size_t n) {
                        for (size_t i = 0; i < kPagesPerChunk; ++i)
                            xor_page(page_at(chunk_of(set, n), i), page_at(chunk_of(deltas, n), i));
                    },
                .limit =
                    [&](size_t n) {
                        std::memcpy(staging(n).data(), far_chunk_of(set, n).data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kChunkBytes});
}

// What a chunk costs in the governor, on a fast link that never wants packing; the limit is memcpy
// of the chunk, and the ratio as good as nothing.
void govern(benchmark::State& state) {
    const auto set = sample(Kind::kNoise);
    CodecGovernor governor;
    MonotonicTime now;
    run(state, {.work =
                    [&](size_t) {
                        using std::chrono::microseconds;
                        auto step =
                            governor.plan({.raw_bytes = kChunkBytes, .pass = microseconds(100)});
                        while (step.is_sample)
                            step = governor.judge({.raw_bytes = CodecGovernor::kSampleBytes,
                                                   .packed_bytes = CodecGovernor::kSampleBytes,
                                                   .time = microseconds(3)});
                        now += microseconds(700);
                        governor.sent(kChunkBytes, microseconds(600), now);
                    },
                .limit =
                    [&](size_t n) {
                        std::memcpy(staging(n).data(), far_chunk_of(set, n).data(), kChunkBytes);
                        benchmark::ClobberMemory();
                    },
                .bytes = kChunkBytes});
}

void each_kind_packed(benchmark::internal::Benchmark* benchmark) {
    for (const Kind kind : kKinds)
        for (const size_t bytes : {kChunkBytes, CodecGovernor::kSampleBytes})
            for (const PageCodec packer : kPackers)
                benchmark->Args({static_cast<int64_t>(kind), static_cast<int64_t>(bytes >> 10),
                                 static_cast<int64_t>(packer)});
}

void each_kind_unpacked(benchmark::internal::Benchmark* benchmark) {
    for (const Kind kind : kKinds)
        for (const PageCodec packer : kPackers)
            if (kind != Kind::kNoise)
                benchmark->Args({static_cast<int64_t>(kind), static_cast<int64_t>(packer)});
}

void each_level(benchmark::internal::Benchmark* benchmark) {
    for (const Kind kind : {Kind::kText, Kind::kNoise, Kind::kScatter})
        for (const int level : {-5, -3, -1, 1, 3})
            benchmark->Args({static_cast<int64_t>(kind), level});
}

BENCHMARK(pack)->ArgNames({"kind", "KiB", "codec"})->Apply(each_kind_packed)->UseManualTime();
BENCHMARK(unpack)->ArgNames({"kind", "codec"})->Apply(each_kind_unpacked)->UseManualTime();
BENCHMARK(acceleration)->ArgName("knob")->Arg(2)->Arg(4)->Arg(8)->Arg(16)->UseManualTime();
BENCHMARK(zstd_level)->ArgNames({"kind", "level"})->Apply(each_level)->UseManualTime();
BENCHMARK(make_deltas)->UseManualTime();
BENCHMARK(apply_deltas)->UseManualTime();
BENCHMARK(govern)->UseManualTime();

}  // namespace
}  // namespace godwit::bench
