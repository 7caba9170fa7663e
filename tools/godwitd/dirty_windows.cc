#include "tools/godwitd/dirty_windows.h"

#include <algorithm>

#include "engine/model/forecast.h"

namespace godwit {
namespace {

struct WindowKind {
    int count = 1;
    int divisor = 1;
};
constexpr WindowKind kKinds[] = {{8, 128}, {4, 32}, {2, 8}, {1, 2}};

// Once a chunk: trackers arm whole windows anyway.
absl::Status arm_again(DirtyTracker& tracker, const PageSet& written) {
    for (BlockIndex block = 0; block < written.size(); ++block) {
        const PageBitmap& pages = written[block];
        for (PageIndex page = pages.next_set(0); page < pages.page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            const PageIndex end = std::min((chunk + 1) * kPagesPerChunk, pages.page_count());
            GODWIT_RETURN_IF_ERROR(tracker.rearm(block, {chunk * kPagesPerChunk, end}));
            page = pages.next_set(end);
            if (end == pages.page_count()) break;
        }
    }
    return absl::OkStatus();
}

DirtySample sample_of(MonotonicTime from, MonotonicTime to, const PageSet& written) {
    DirtySample sample{.window_s = to_seconds(to - from),
                       .pages = static_cast<double>(count_pages(written))};
    for (const PageBitmap& pages : written) {
        ChunkIndex counted = 0;  // chunks before it
        pages.for_each_run([&](PageRange run) {
            ++sample.runs;
            const ChunkIndex first = std::max(run.begin / kPagesPerChunk, counted);
            counted = (run.end - 1) / kPagesPerChunk + 1;
            sample.chunks += static_cast<double>(counted - first);
        });
    }
    return sample;
}

}  // namespace

absl::StatusOr<std::vector<DirtySample>> sample_dirty_windows(
    DirtyTracker& tracker, const PageSet& empty, Duration length,
    const std::function<absl::Status(MonotonicTime)>& wait_until, const Clock& clock) {
    std::vector<DirtySample> samples;
    PageSet window = empty;
    PageSet unsettled = empty;
    PageSet kind_set = empty;
    PageSet all = empty;
    const MonotonicTime began = clock.now();
    MonotonicTime armed_at = began;
    for (const WindowKind& kind : kKinds) {
        const MonotonicTime kind_began = armed_at;
        clear_pages(kind_set);
        for (int i = 0; i < kind.count; ++i) {
            GODWIT_RETURN_IF_ERROR(wait_until(armed_at + length / kind.divisor));
            clear_pages(window);
            GODWIT_RETURN_IF_ERROR(tracker.collect(window, unsettled));
            const MonotonicTime now = clock.now();
            samples.push_back(sample_of(armed_at, now, window));
            armed_at = now;
            GODWIT_RETURN_IF_ERROR(arm_again(tracker, window));
            add_pages(kind_set, window);
        }
        add_pages(all, kind_set);
        if (kind.count > 1) samples.push_back(sample_of(kind_began, armed_at, kind_set));
    }
    samples.push_back(sample_of(began, armed_at, all));
    return samples;
}

}  // namespace godwit
