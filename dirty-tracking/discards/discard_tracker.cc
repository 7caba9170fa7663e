#include "dirty-tracking/discards/discard_tracker.h"

namespace godwit {

DiscardTracker::DiscardTracker(std::unique_ptr<DirtyTracker> tracker,
                               std::unique_ptr<ResidentClient> resident,
                               std::span<const RamBlock> blocks)
    : tracker_(std::move(tracker)), resident_(std::move(resident)) {
    for (const RamBlock& block : blocks) {
        blocks_.push_back(without_file(block));
        discarded_.emplace_back(block.page_count());
    }
}

absl::Status DiscardTracker::start() {
    sees_discards_ = resident_->start_log(blocks_, ResidentLog::kDiscardsOnly).ok();
    return tracker_->start();
}

absl::Status DiscardTracker::collect(PageSet& dirty, PageSet& unsettled) {
    // It knows whether the sets have the right shape.
    GODWIT_RETURN_IF_ERROR(tracker_->collect(dirty, unsettled));
    if (!sees_discards_) return absl::OkStatus();
    clear_pages(discarded_);
    GODWIT_RETURN_IF_ERROR(
        annotate(resident_->collect(discarded_), "Cannot collect what QEMU gave back"));
    add_pages(dirty, discarded_);
    add_pages(unsettled, discarded_);
    return absl::OkStatus();
}

absl::Status DiscardTracker::stop() {
    absl::Status status = tracker_->stop();
    // A resident that is gone has ended its log by itself.
    const absl::Status ended = resident_->stop_log();
    if (!absl::IsUnavailable(ended)) status.Update(ended);
    return status;
}

}  // namespace godwit
