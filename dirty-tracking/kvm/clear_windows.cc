#include "dirty-tracking/kvm/clear_windows.h"

#include <algorithm>
#include <bit>

namespace godwit {

ClearWindows::ClearWindows(uint64_t page_count)
    : page_count_(page_count), armed_((page_count + kMinPages - 1) / kMinPages) {
    reset(page_count);
}

void ClearWindows::all_armed() {
    for (std::atomic<bool>& armed : armed_) armed.store(true, std::memory_order_relaxed);
}

void ClearWindows::reset(uint64_t dirty_count) {
    const uint64_t wanted = page_count_ * kDirtyPages / std::max<uint64_t>(dirty_count, 1);
    window_pages_ = std::bit_floor(std::clamp(wanted, kMinPages, kMaxPages));
    for (std::atomic<bool>& armed : armed_) armed.store(false, std::memory_order_relaxed);
}

absl::Status ClearWindows::ensure(PageRange range,
                                  const std::function<absl::Status(PageRange)>& arm) {
    if (range.begin >= range.end) return absl::OkStatus();
    const size_t last = (range.end - 1) / window_pages_;
    for (size_t window = range.begin / window_pages_; window <= last; ++window) {
        if (is_armed(window)) continue;
        // Whoever comes second waits until it is done: only then may it read.
        const std::lock_guard lock(arming_);
        if (is_armed(window)) continue;
        const PageIndex begin = window * window_pages_;
        GODWIT_RETURN_IF_ERROR(arm({begin, std::min(begin + window_pages_, page_count_)}));
        armed_[window].store(true, std::memory_order_release);
    }
    return absl::OkStatus();
}

}  // namespace godwit
