// TraceRecorder: what an agent tells of a recording, as a dirty trace.
#pragma once

#include <ostream>
#include <string>

#include "engine/model/dirty_trace.h"
#include "godwit/v1/agent.pb.h"

namespace godwit {

// Holds one set at a time. Not thread-safe. After an error the trace is unusable.
class TraceRecorder {
  public:
    // `out` must outlive it.
    explicit TraceRecorder(std::ostream& out) : out_(out) {}

    // Errors: DataLoss (the messages make no sense, the stream failed), and TraceWriter's.
    absl::Status take(const v1::DirtyRecording& message);
    // Makes what came so far a whole trace; a set of which only a part came is left out. Errors:
    // FailedPrecondition where there is no set; DataLoss.
    absl::Status finish();

    [[nodiscard]] const v1::DirtyRecordingStart& start() const { return start_; }
    [[nodiscard]] uint64_t sets() const { return sets_; }
    [[nodiscard]] uint64_t dirty_pages() const { return dirty_pages_; }  // of all sets
    [[nodiscard]] uint64_t time_ns() const { return time_ns_; }          // of the last set
    // Empty: not so.
    [[nodiscard]] const std::string& ended_early() const { return ended_early_; }

  private:
    absl::Status begin(const v1::DirtyRecordingStart& start);
    absl::Status add(const v1::DirtySet& set);

    std::ostream& out_;
    std::optional<TraceWriter> writer_;  // once it has begun
    v1::DirtyRecordingStart start_;
    DirtyRecord record_;  // the set that is coming
    uint64_t end_ = 0;    // of its last run
    uint64_t sets_ = 0;
    uint64_t dirty_pages_ = 0;
    uint64_t time_ns_ = 0;
    std::string ended_early_;
};

}  // namespace godwit
