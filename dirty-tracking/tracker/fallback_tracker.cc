#include "dirty-tracking/tracker/fallback_tracker.h"

namespace godwit {

absl::Status FallbackTracker::start() {
    absl::Status status = tracker_->start();
    if (status.ok() || !make_other_) return status;
    reason_ = std::string(status.message());
    (void)tracker_->stop();
    return annotate(start_other(), reason_ + "; and the tracker that takes its place");
}

absl::Status FallbackTracker::start_other() {
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<DirtyTracker> other, make_other_());
    make_other_ = nullptr;
    tracker_ = std::move(other);
    return tracker_->start();
}

}  // namespace godwit
