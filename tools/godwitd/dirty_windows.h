// Samples of the unique-dirty curve U(t) with their spread: many short windows, fewer long ones.
#pragma once

#include <functional>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"
#include "engine/base/clock.h"
#include "engine/model/dirty_curve.h"

namespace godwit {

// Watches for `length`, split into windows one after another: 8 of length/128, 4 of length/32, 2 of
// length/8 and 1 of length/2; the windows of a kind together are one more sample, and so are all.
// After each window what was written in it is armed again: a page costs the guest a fault a window.
//
// The tracker was started; whoever did so stops it. `wait_until` returns ok when that moment has
// come. Errors: the tracker's, and those of `wait_until`. Samples are as long as they were.
absl::StatusOr<std::vector<DirtySample>> sample_dirty_windows(
    DirtyTracker& tracker, const PageSet& empty, Duration length,
    const std::function<absl::Status(MonotonicTime)>& wait_until,
    const Clock& clock = Clock::system());

}  // namespace godwit
