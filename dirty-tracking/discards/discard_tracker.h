// DiscardTracker: a tracker that does not see what QEMU gives back, and the resident that does.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "dirty-tracking/resident/resident_client.h"
#include "dirty-tracking/tracker/tracker.h"
#include "engine/base/ram_block.h"

namespace godwit {

// Balloon and free-page reporting punch holes into the RAM file: zeros, written through no mapping.
// The resident is in front of the calls that do so, under any accelerator; KVM's log stays off.
//
// What it reports comes as whole chunks and is unsettled too: a discard may have wiped out the
// trace of a page that a disk is writing. Threads: as DirtyTracker; rearm() is the tracker's.
class DiscardTracker final : public DirtyTracker {
  public:
    // `blocks` are only used during the call.
    DiscardTracker(std::unique_ptr<DirtyTracker> tracker, std::unique_ptr<ResidentClient> resident,
                   std::span<const RamBlock> blocks);

    [[nodiscard]] std::string_view name() const override { return tracker_->name(); }
    [[nodiscard]] std::string reason() const override { return tracker_->reason(); }
    [[nodiscard]] std::vector<std::string> warnings() const override {
        return tracker_->warnings();
    }
    // Until start() has asked the resident, and unless it refused.
    [[nodiscard]] bool sees_discards() const override { return sees_discards_; }
    [[nodiscard]] bool rearms_as_read() const override { return tracker_->rearms_as_read(); }

    // A resident that refuses is gone without. Errors: the tracker's.
    absl::Status start() override;
    // Errors: those of both. Unavailable: the resident is gone.
    absl::Status collect(PageSet& dirty, PageSet& unsettled) override;
    absl::Status rearm(BlockIndex block, PageRange range) override {
        return tracker_->rearm(block, range);
    }
    absl::Status stop() override;

  private:
    std::unique_ptr<DirtyTracker> tracker_;
    std::unique_ptr<ResidentClient> resident_;
    std::vector<RamBlock> blocks_;  // without files
    PageSet discarded_;             // of one collect()
    bool sees_discards_ = true;
};

}  // namespace godwit
