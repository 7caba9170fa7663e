// The dirty sets of a running VM over time, recorded without migrating it.
#pragma once

#include <functional>
#include <string>

#include "engine/guest/hypervisor.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

struct RecordingTimes {
    Duration length = std::chrono::seconds(60);
    Duration window = std::chrono::milliseconds(100);
};

// With the default for each number that is 0. Error: InvalidArgument.
absl::StatusOr<RecordingTimes> recording_times(const v1::RecordDirtyRequest& request);

// A message holds at most this many runs: some 80 KiB.
inline constexpr int kMostRunsOfMessage = 8192;

// The set as messages, in order; `write` false: it is not to go on, and neither does this.
bool send_dirty_set(const PageSet& dirty, Duration time,
                    const std::function<bool(const v1::DirtyRecording&)>& write);

// Arms the tracker, then collects and arms again at the end of each window: a page costs the guest
// one fault a window at the most. One set is held at a time; where `write` blocks, the window that
// runs meanwhile is longer. `cancelled` is asked every 100 ms. Nothing is armed when it returns.
// A VM that ends is no error: it is said in the last message. Errors: the tracker's, Cancelled
// (also where `write` was false).
absl::Status record_dirty(Vm& vm, const std::string& tracker_name, const RecordingTimes& times,
                          const std::function<bool()>& cancelled,
                          const std::function<bool(const v1::DirtyRecording&)>& write);

}  // namespace godwit
