// Finding the set pages of a bitmap of 1 TiB (268 M pages, 32 MiB), few of which are set: the
// bitmap's own loop against its rivals. Nothing but the bitmap is allocated.
#include <benchmark/benchmark.h>

#include <bit>
#include <random>
#include <vector>

#include "engine/base/page_bitmap.h"

namespace godwit {
namespace {

constexpr uint64_t kPages = uint64_t{1} << 28;
constexpr double kGib = 1024;

// So many of each 100,000 pages, one by one (a random write set) or in runs of 64 (DMA, copies).
PageBitmap make_bitmap(const benchmark::State& state) {
    PageBitmap bitmap(kPages);
    const uint64_t run = state.range(1) != 0 ? 64 : 1;
    std::mt19937_64 random(1);
    for (uint64_t left = kPages / 100'000 * static_cast<uint64_t>(state.range(0)); left >= run;
         left -= run) {
        const PageIndex begin = random() % (kPages / run) * run;
        bitmap.set_range({begin, begin + run});
    }
    return bitmap;
}

void report(benchmark::State& state) {
    state.counters["ms_per_GiB"] = benchmark::Counter(
        1e-3 * kGib, benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}

template <typename Visit>
void visit_bits(uint64_t bits, PageIndex first, Visit&& visit) {
    for (; bits != 0; bits &= bits - 1)
        visit(first + static_cast<uint64_t>(std::countr_zero(bits)));
}

void next_set(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    for (auto _ : state) {
        uint64_t sum = 0;
        for (PageIndex page = bitmap.next_set(0); page < kPages; page = bitmap.next_set(page + 1))
            sum += page;
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

void for_each_run(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    for (auto _ : state) {
        uint64_t sum = 0;
        bitmap.for_each_run([&sum](PageRange run) { sum += run.begin + run.end; });
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

// What a round does: from chunk to chunk.
void next_chunk(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    for (auto _ : state) {
        uint64_t sum = 0;
        for (PageIndex page = bitmap.next_set(0); page < kPages;) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            sum += chunk;
            page = bitmap.next_set((chunk + 1) * kPagesPerChunk);
        }
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

void word_skipping(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    const std::span<const uint64_t> words = bitmap.words();
    for (auto _ : state) {
        uint64_t sum = 0;
        for (size_t i = 0; i < words.size(); ++i)
            visit_bits(words[i], i * 64, [&sum](PageIndex page) { sum += page; });
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

// A cache line at a time; the compiler makes SIMD of the eight.
void line_skipping(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    const std::span<const uint64_t> words = bitmap.words();
    for (auto _ : state) {
        uint64_t sum = 0;
        for (size_t i = 0; i < words.size(); i += 8) {
            const uint64_t* line = &words[i];
            if ((line[0] | line[1] | line[2] | line[3] | line[4] | line[5] | line[6] | line[7]) ==
                0)
                continue;
            for (size_t k = 0; k < 8; ++k)
                visit_bits(line[k], (i + k) * 64, [&sum](PageIndex page) { sum += page; });
        }
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

// One bit per word, kept up to date by whoever sets a page; given for nothing here.
void summary_level(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    const std::span<const uint64_t> words = bitmap.words();
    std::vector<uint64_t> summary(words.size() / 64);
    for (size_t i = 0; i < words.size(); ++i)
        if (words[i] != 0) summary[i / 64] |= uint64_t{1} << (i % 64);
    for (auto _ : state) {
        uint64_t sum = 0;
        for (size_t s = 0; s < summary.size(); ++s) {
            visit_bits(summary[s], s * 64, [&](size_t i) {
                visit_bits(words[i], i * 64, [&sum](PageIndex page) { sum += page; });
            });
        }
        benchmark::DoNotOptimize(sum);
    }
    report(state);
}

void count(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    for (auto _ : state) benchmark::DoNotOptimize(bitmap.count());
    report(state);
}

void add(benchmark::State& state) {
    const PageBitmap bitmap = make_bitmap(state);
    PageBitmap sum(kPages);
    for (auto _ : state) sum.add(bitmap);
    report(state);
}

// 100: 0.1 %, 1: 0.001 %.
void cases(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgNames({"dirty_per_100000", "runs_of_64"})
        ->ArgsProduct({{1, 100, 1000}, {0, 1}})
        ->MinTime(0.1)
        ->Unit(benchmark::kMillisecond);
}

BENCHMARK(next_set)->Apply(cases);
BENCHMARK(for_each_run)->Apply(cases);
BENCHMARK(next_chunk)->Apply(cases);
BENCHMARK(word_skipping)->Apply(cases);
BENCHMARK(line_skipping)->Apply(cases);
BENCHMARK(summary_level)->Apply(cases);
BENCHMARK(count)->Apply(cases);
BENCHMARK(add)->Apply(cases);

}  // namespace
}  // namespace godwit

BENCHMARK_MAIN();
