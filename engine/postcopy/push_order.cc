#include "engine/postcopy/push_order.h"

#include <algorithm>

namespace godwit {
namespace {

struct Ranked {
    ChunkPlace place;
    uint64_t hot_pages = 0;
};

}  // namespace

PushOrder::PushOrder(const PageSet& all, const PageSet& hot, size_t stream_count)
    : shares_(stream_count) {
    std::vector<std::vector<Ranked>> ranked(stream_count);
    for (BlockIndex block = 0; block < all.size(); ++block) {
        const PageBitmap& pages = all[block];
        for (PageIndex page = pages.next_set(0); page < pages.page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            const PageRange range{
                chunk * kPagesPerChunk,
                std::min<PageIndex>((chunk + 1) * kPagesPerChunk, pages.page_count())};
            ranked[(chunk + block) % stream_count].push_back(
                {.place = {.block = block, .chunk = chunk},
                 .hot_pages = hot[block].count_range(range)});
            page = pages.next_set(range.end);
        }
    }
    for (size_t stream = 0; stream < stream_count; ++stream) {
        std::stable_sort(
            ranked[stream].begin(), ranked[stream].end(),
            [](const Ranked& a, const Ranked& b) { return a.hot_pages > b.hot_pages; });
        shares_[stream].reserve(ranked[stream].size());
        for (const Ranked& chunk : ranked[stream]) shares_[stream].push_back(chunk.place);
    }
}

}  // namespace godwit
