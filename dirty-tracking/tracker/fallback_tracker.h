// FallbackTracker: a tracker, and another one for when the first can't be started.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"

namespace godwit {

// Whether a back end works may only be known when it is switched on. Once the other one has taken
// over, it stays. Threads: as DirtyTracker.
class FallbackTracker final : public DirtyTracker {
  public:
    using Make = std::function<absl::StatusOr<std::unique_ptr<DirtyTracker>>()>;

    FallbackTracker(std::unique_ptr<DirtyTracker> preferred, Make make_other)
        : tracker_(std::move(preferred)), make_other_(std::move(make_other)) {}
    // Where the preferred one could not even be made, and why.
    FallbackTracker(std::unique_ptr<DirtyTracker> other, std::string reason)
        : tracker_(std::move(other)), reason_(std::move(reason)) {}

    [[nodiscard]] std::string_view name() const override { return tracker_->name(); }
    // What the preferred one said, when it was given up.
    [[nodiscard]] std::string reason() const override { return reason_; }
    [[nodiscard]] std::vector<std::string> warnings() const override {
        return tracker_->warnings();
    }
    [[nodiscard]] bool sees_discards() const override { return tracker_->sees_discards(); }
    [[nodiscard]] bool rearms_as_read() const override { return tracker_->rearms_as_read(); }

    // Errors: those of the other one, with what the preferred one said.
    absl::Status start() override;
    absl::Status collect(PageSet& dirty, PageSet& unsettled) override {
        return tracker_->collect(dirty, unsettled);
    }
    absl::Status rearm(BlockIndex block, PageRange range) override {
        return tracker_->rearm(block, range);
    }
    absl::Status stop() override { return tracker_->stop(); }

  private:
    absl::Status start_other();

    std::unique_ptr<DirtyTracker> tracker_;
    Make make_other_;  // empty once it was used
    std::string reason_;
};

}  // namespace godwit
