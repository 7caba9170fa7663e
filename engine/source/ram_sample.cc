#include "engine/source/ram_sample.h"

#include <algorithm>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/ram_reader.h"
#include "transport/codec/chunk_codec.h"

namespace godwit {
namespace {

// Pages of one chunk, counted within their block.
struct Place {
    BlockIndex block = 0;
    std::vector<PageRange> runs;
};

void add_run(std::vector<Place>& places, BlockIndex block, PageRange run) {
    const ChunkIndex chunk = run.begin / kPagesPerChunk;
    const bool same = !places.empty() && places.back().block == block &&
                      places.back().runs.front().begin / kPagesPerChunk == chunk;
    if (!same) places.push_back({.block = block});
    places.back().runs.push_back(run);
}

// All chunks of which something is allocated, ascending.
absl::StatusOr<std::vector<Place>> allocated_places(std::span<const RamBlock> blocks) {
    std::vector<Place> places;
    for (BlockIndex block = 0; block < blocks.size(); ++block)
        GODWIT_RETURN_IF_ERROR(for_each_data_extent(
            blocks[block].file.get(), blocks[block].size, [&](PageRange extent) {
                while (extent.begin < extent.end) {
                    const PageIndex end =
                        std::min((extent.begin / kPagesPerChunk + 1) * kPagesPerChunk, extent.end);
                    add_run(places, block, {extent.begin, end});
                    extent.begin = end;
                }
            }));
    return places;
}

double seconds_per_byte(Duration time, uint64_t bytes) {
    return bytes == 0 ? 0
                      : std::chrono::duration<double>(time).count() / static_cast<double>(bytes);
}

class Sampler {
  public:
    explicit Sampler(RamReader reader)
        : reader_(std::move(reader)), content_(kChunkBytes), packed_(kChunkBytes) {}

    absl::Status take(const Place& place) {
        size_t kept = 0;
        const Duration began = thread_cpu_time();
        for (const PageRange& run : place.runs) {
            GODWIT_ASSIGN_OR_RETURN(
                const size_t got,
                reader_.read(place.block, run, std::span(content_).subspan(kept),
                             [](PageIndex, const Hash128& hash) { return hash != Hash128{}; }));
            kept += got;
            pages_ += run.count();
        }
        read_time_ += thread_cpu_time() - began;
        if (kept == 0) return absl::OkStatus();
        content_bytes_ += kept;
        GODWIT_RETURN_IF_ERROR(pack(PageCodec::kLz4, std::span(content_).first(kept), lz4_));
        return pack(PageCodec::kZstd, std::span(content_).first(kept), zstd_);
    }

    [[nodiscard]] RamSample result(uint64_t touched_pages) const {
        RamSample sample{.touched_pages = touched_pages, .sampled_pages = pages_};
        const auto all = static_cast<double>(pages_ * kPageBytes);
        if (pages_ > 0) sample.zero_share = 1 - static_cast<double>(content_bytes_) / all;
        sample.read_cpu_s_per_byte = seconds_per_byte(read_time_, pages_ * kPageBytes);
        sample.lz4 = packing_of(lz4_);
        sample.zstd = packing_of(zstd_);
        return sample;
    }

  private:
    struct Sums {
        uint64_t packed_bytes = 0;
        Duration pack_time{};
        Duration unpack_time{};
    };

    absl::Status pack(PageCodec codec, std::span<const std::byte> content, Sums& sums) {
        const Duration began = thread_cpu_time();
        const std::optional<size_t> size = codec_.pack(codec, content, packed_);
        const Duration packed = thread_cpu_time();
        sums.pack_time += packed - began;
        sums.packed_bytes += size.value_or(content.size());
        if (!size) return absl::OkStatus();
        const absl::Status unpacked =
            codec_.decompress(codec, std::span(packed_).first(*size), content.size()).status();
        sums.unpack_time += thread_cpu_time() - packed;
        return unpacked;
    }

    [[nodiscard]] RamSample::Packing packing_of(const Sums& sums) const {
        RamSample::Packing packing;
        if (content_bytes_ > 0)
            packing.wire_share =
                static_cast<double>(sums.packed_bytes) / static_cast<double>(content_bytes_);
        packing.pack_cpu_s_per_byte = seconds_per_byte(sums.pack_time, content_bytes_);
        packing.unpack_cpu_s_per_byte = seconds_per_byte(sums.unpack_time, content_bytes_);
        return packing;
    }

    RamReader reader_;
    ChunkCodec codec_;
    std::vector<std::byte> content_;
    std::vector<std::byte> packed_;
    uint64_t pages_ = 0;
    uint64_t content_bytes_ = 0;
    Duration read_time_{};
    Sums lz4_;
    Sums zstd_;
};

}  // namespace

absl::StatusOr<RamSample> sample_ram(std::span<const RamBlock> blocks) {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<Place> places, allocated_places(blocks));
    if (places.empty())
        return absl::NotFoundError("The VM has touched no memory yet: let it run first");
    uint64_t touched_pages = 0;
    for (const Place& place : places)
        for (const PageRange& run : place.runs) touched_pages += run.count();
    GODWIT_ASSIGN_OR_RETURN(RamReader reader, RamReader::create(blocks));
    Sampler sampler(std::move(reader));
    const uint64_t count = std::min<uint64_t>(places.size(), kMostSampledChunks);
    for (uint64_t i = 0; i < count; ++i)
        GODWIT_RETURN_IF_ERROR(sampler.take(places[i * places.size() / count]));
    return sampler.result(touched_pages);
}

}  // namespace godwit
