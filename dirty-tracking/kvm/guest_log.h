// GuestLog: the log of what the vCPUs wrote, as KvmDirtyLogTracker uses it.
#pragma once

#include <string>
#include <vector>

#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"

namespace godwit {

// The resident's, or a test's. Threads and errors: as DirtyTracker's, but views() and
// warnings() may be called before start().
class GuestLog {
  public:
    virtual ~GuestLog() = default;

    // Where the vCPUs write (views A): memory of the target that only KVM uses.
    virtual absl::StatusOr<std::vector<AddressRange>> views() = 0;
    // Memory of the guest whose vCPU writes this log does not hold, a sentence each: they go
    // through another mapping than views(), and are found there.
    virtual absl::StatusOr<std::vector<std::string>> warnings() = 0;
    // Switches the log on and arms every page.
    virtual absl::Status start() = 0;
    // Adds what was written since it was last armed; arms nothing.
    virtual absl::Status collect(PageSet& dirty) = 0;
    // Arms what the last collect() reported of this range.
    virtual absl::Status rearm(BlockIndex block, PageRange range) = 0;
    virtual absl::Status stop() = 0;
};

}  // namespace godwit
