// DirtyTracker: which guest pages were written. The engine never knows which back end runs.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"

namespace godwit {

// The rule that keeps data: a page is re-armed before its content is read, so that every write is
// either in what was read or in the next set.
//
// One thread drives a tracker; only rearm() may be called from several at once, for different
// ranges, and not during another call. After an error from any call the caller must treat
// every page as dirty (or give up); start() may be called again after stop().
class DirtyTracker {
  public:
    virtual ~DirtyTracker() = default;

    // What follows may change with start().
    // "uffd-wp" or "kvm-dirty-log".
    [[nodiscard]] virtual std::string_view name() const = 0;
    // Why it is this one and not the one that "auto" prefers; else empty.
    [[nodiscard]] virtual std::string reason() const { return {}; }
    // What its user should know about this VM, a sentence each.
    [[nodiscard]] virtual std::vector<std::string> warnings() const { return {}; }
    // Whether pages that the VM gives back (balloon) are reported as written.
    [[nodiscard]] virtual bool sees_discards() const { return false; }
    // Whether rearm() does something: a page that was written before a round came to it is not in
    // the next set then.
    [[nodiscard]] virtual bool rearms_as_read() const { return false; }

    // Arms every allocated page. A write after start() returned is reported by a later collect();
    // a write before it is in what the caller reads after start().
    virtual absl::Status start() = 0;

    // Adds to `dirty` (one bitmap per RAM block, in the VM's order) the pages written since they
    // were last armed, and the pages that were allocated since; adds to `unsettled` those of them
    // that a device may still be writing by DMA when this returns (until a drain of block I/O that
    // begins later has ended). Never clears a bit of either. Both may be the same set.
    virtual absl::Status collect(PageSet& dirty, PageSet& unsettled) = 0;

    // To be called just before the pages of `range` are read, while the guest runs (nobody writes
    // behind a frozen guest's last collect()). Back ends that re-arm within collect() do nothing.
    virtual absl::Status rearm(BlockIndex block, PageRange range) = 0;

    // Disarms everything: the guest runs at full speed again. Safe to call at any time.
    virtual absl::Status stop() = 0;
};

}  // namespace godwit
