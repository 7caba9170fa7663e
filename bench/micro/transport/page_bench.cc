// The page pass and its parts: what a page costs before it is in a frame.
#include <algorithm>
#include <cstring>
#include <optional>
#include <vector>

#include "bench/micro/transport/against.h"
#include "bench/micro/transport/samples.h"
#include "engine/base/copy_page.h"
#include "engine/base/hash.h"
#include "engine/base/ram_reader.h"

namespace godwit::bench {
namespace {

void copy_chunk(std::span<const std::byte> chunk, size_t number) {
    std::memcpy(staging(number).data(), chunk.data(), kChunkBytes);
    benchmark::ClobberMemory();
}

template <typename Work>
void for_pages(std::span<const std::byte> bytes, Work&& work) {
    for (size_t at = 0; at < bytes.size(); at += kPageBytes) work(bytes.subspan(at, kPageBytes));
}

void zero_test(benchmark::State& state, Kind kind) {
    static const std::vector<std::byte> zeros(kPageBytes);
    const auto set = sample(kind);
    run(state,
        {.work =
             [&](size_t n) {
                 for_pages(chunk_of(set, n),
                           [](auto page) { benchmark::DoNotOptimize(is_zero(page)); });
             },
         .limit =
             [&](size_t n) {
                 for_pages(far_chunk_of(set, n), [](auto page) {
                     benchmark::DoNotOptimize(std::memcmp(page.data(), zeros.data(), kPageBytes));
                 });
             },
         .bytes = kChunkBytes});
}

// Pages that the caches do not have, and pages that were just copied (in L2).
void hash_pages(benchmark::State& state, bool cached) {
    const auto set = sample(Kind::kNoise);
    constexpr size_t kCachedBytes = size_t{256} << 10;
    const auto place = [&](size_t n) -> std::span<const std::byte> {
        return cached ? staging(0).first(kCachedBytes) : chunk_of(set, n);
    };
    run(state, {.work =
                    [&](size_t n) {
                        for_pages(place(n),
                                  [](auto page) { benchmark::DoNotOptimize(hash_bytes(page)); });
                    },
                .limit =
                    [&](size_t n) {
                        const auto bytes = place(n + set.size() / kChunkBytes / 2);
                        std::memcpy(staging(1).data(), bytes.data(), bytes.size());
                        benchmark::ClobberMemory();
                    },
                .bytes = place(0).size()});
}

const RamFile* ram_file(benchmark::State& state, bool huge_pages) {
    static std::optional<RamFile> files[2];
    std::optional<RamFile>& file = files[huge_pages ? 1 : 0];
    if (file) return &*file;
    auto made = make_ram_file(huge_pages);
    if (made.ok()) return &file.emplace(*std::move(made));
    state.SkipWithError(std::string(made.status().message()).c_str());
    return nullptr;
}

enum class Pass { kReader, kPreadThenHash, kPread };

// Touched noise into a frame's buffer, in runs of so many pages; the limit is memcpy of the same
// memory by whole chunks.
void page_pass(benchmark::State& state, Pass pass, bool huge_pages) {
    const RamFile* ram = ram_file(state, huge_pages);
    if (ram == nullptr) return;
    std::vector<RamBlock> blocks(1);
    blocks[0].size = bytes_of_sets();
    blocks[0].backing = huge_pages ? Backing::kTmpfsHuge : Backing::kTmpfs4k;
    blocks[0].file = UniqueFd(::dup(ram->file.get()));
    auto reader = RamReader::create(blocks).value();
    const auto pages_per_run = static_cast<uint64_t>(state.range(0));
    const auto read_run = [&](PageRange pages, std::span<std::byte> to) {
        if (pass == Pass::kReader) {
            benchmark::DoNotOptimize(
                reader.read(0, pages, to, [](PageIndex, const Hash128&) { return true; }));
            return;
        }
        benchmark::DoNotOptimize(
            read_fully(ram->file.get(), to.data(), to.size(), pages.begin * kPageBytes));
        if (pass == Pass::kPreadThenHash)
            for_pages(to, [](auto page) {
                benchmark::DoNotOptimize(is_zero(page) ? Hash128{} : hash_bytes(page));
            });
    };
    // Each page is mapped by the first read: a migration pays for that once.
    for (size_t n = 0; n < bytes_of_sets() / kChunkBytes; ++n)
        read_run({n * kPagesPerChunk, (n + 1) * kPagesPerChunk}, staging(n));
    run(state, {.work =
                    [&](size_t n) {
                        const PageIndex first = n * kChunkBytes % bytes_of_sets() / kPageBytes;
                        for (uint64_t page = 0; page < kPagesPerChunk; page += pages_per_run)
                            read_run(
                                {first + page, first + page + pages_per_run},
                                staging(n).subspan(page * kPageBytes, pages_per_run * kPageBytes));
                    },
                .limit = [&](size_t n) { copy_chunk(far_chunk_of(ram->map.bytes(), n), n); },
                .bytes = kChunkBytes});
}

void copy_page_only(benchmark::State& state) {
    const auto set = sample(Kind::kNoise);
    run(state, {.work =
                    [&](size_t n) {
                        std::byte* to = staging(n).data();
                        for_pages(chunk_of(set, n), [&](auto page) {
                            benchmark::DoNotOptimize(copy_page(to, page.data()));
                            to += kPageBytes;
                        });
                    },
                .limit = [&](size_t n) { copy_chunk(far_chunk_of(set, n), n); },
                .bytes = kChunkBytes});
}

void runs(benchmark::internal::Benchmark* benchmark) {
    benchmark->ArgName("run_pages")->Arg(1)->Arg(16)->Arg(128)->Arg(512)->UseManualTime();
}

BENCHMARK_CAPTURE(zero_test, zeros, Kind::kZeros)->UseManualTime();
BENCHMARK_CAPTURE(zero_test, noise, Kind::kNoise)->UseManualTime();
BENCHMARK_CAPTURE(hash_pages, memory, false)->UseManualTime();
BENCHMARK_CAPTURE(hash_pages, cached, true)->UseManualTime();
BENCHMARK(copy_page_only)->UseManualTime();
BENCHMARK_CAPTURE(page_pass, huge, Pass::kReader, true)->Apply(runs);
BENCHMARK_CAPTURE(page_pass, huge_by_pread, Pass::kPreadThenHash, true)->Apply(runs);
BENCHMARK_CAPTURE(page_pass, huge_pread_alone, Pass::kPread, true)->Apply(runs);
BENCHMARK_CAPTURE(page_pass, small, Pass::kReader, false)->Apply(runs);
BENCHMARK_CAPTURE(page_pass, small_pread_alone, Pass::kPread, false)->Apply(runs);

}  // namespace
}  // namespace godwit::bench
