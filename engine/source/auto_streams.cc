#include "engine/source/auto_streams.h"

#include <algorithm>

namespace godwit {
namespace {

double seconds(Duration duration) {
    return std::max(std::chrono::duration<double>(duration).count(), 1e-6);
}

}  // namespace

AutoStreams::AutoStreams(size_t opened)
    : opened_(opened), streams_(std::min(kFirst, opened)), settled_(opened <= kFirst) {}

void AutoStreams::fit_slices(const Slice& slice) {
    const double pages =
        static_cast<double>(slice.pages) * seconds(kSlice) / seconds(slice.duration);
    slice_pages_ = std::max(static_cast<uint64_t>(pages), uint64_t{kLeastSlice / kPageBytes});
}

void AutoStreams::note(const Slice& slice) {
    if (settled_) return;
    fit_slices(slice);
    if (!warm_) {
        warm_ = true;
        return;
    }
    // Mostly zeros: says how fast memory is read, not how fast it is sent.
    if (2 * slice.content_pages < slice.pages) return;
    const double rate = static_cast<double>(slice.content_pages) / seconds(slice.duration);
    if (best_rate_ > 0 && rate < kLeastGain * best_rate_) return settle();
    best_rate_ = rate;
    settled_ = streams_ == opened_;
    if (!settled_) ++streams_;
}

void AutoStreams::settle() {
    if (settled_) return;
    settled_ = true;
    if (best_rate_ > 0) --streams_;  // the last one has not shown that it helps
}

}  // namespace godwit
