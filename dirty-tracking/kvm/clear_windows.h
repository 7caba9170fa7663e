// ClearWindows: which parts of a RAM block's log were armed again since the last collect.
#pragma once

#include <atomic>
#include <functional>
#include <mutex>
#include <vector>

#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"

namespace godwit {

// Arming again costs a message to the resident (10–30 µs) and a TLB flush of the vCPUs, so it is
// done for a window at a time, when the first page of it is about to be read. A page that is
// written between the arming of its window and its own reading is reported once more for nothing:
// that bounds a window from above.
class ClearWindows {
  public:
    // Of dirty pages in a window. They are read in some ms.
    static constexpr uint64_t kDirtyPages = 2048;
    // 8 MiB and 1 GiB. Each is whole words of a bitmap and of the log.
    static constexpr uint64_t kMinPages = kDirtyPages;
    static constexpr uint64_t kMaxPages = uint64_t{1} << 18;

    explicit ClearWindows(uint64_t page_count);

    // Everything is armed as of now: ensure() will do nothing.
    void all_armed();
    // After a collect() that reported `dirty_count` pages: nothing is armed again, and the size of
    // the windows follows from how dense they are. Not beside ensure().
    void reset(uint64_t dirty_count);
    // Calls arm(window) for each window of `range` for which nobody has done so successfully since
    // reset(); returns when all of them are armed. Thread-safe. Errors: arm's.
    absl::Status ensure(PageRange range, const std::function<absl::Status(PageRange)>& arm);

    [[nodiscard]] uint64_t window_pages() const { return window_pages_; }

  private:
    [[nodiscard]] bool is_armed(size_t window) const {
        return armed_[window].load(std::memory_order_acquire);
    }

    const uint64_t page_count_;
    uint64_t window_pages_ = kMinPages;
    std::vector<std::atomic<bool>> armed_;
    std::mutex arming_;
};

}  // namespace godwit
