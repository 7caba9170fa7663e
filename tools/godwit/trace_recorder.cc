#include "tools/godwit/trace_recorder.h"

#include <cerrno>
#include <utility>

namespace godwit {
namespace {

// A run takes two bytes of a trace at least.
constexpr size_t kMostRuns = kMostTraceBody / 2;

absl::Status nonsense(const char* what) {
    return absl::DataLossError(std::string("The agent's recording makes no sense: ") + what);
}

}  // namespace

absl::Status TraceRecorder::take(const v1::DirtyRecording& message) {
    switch (message.what_case()) {
        case v1::DirtyRecording::kStart:
            return begin(message.start());
        case v1::DirtyRecording::kSet:
            return add(message.set());
        case v1::DirtyRecording::kEndedEarly:
            ended_early_ = message.ended_early();
            return absl::OkStatus();
        default:
            return absl::OkStatus();  // of a newer agent
    }
}

absl::Status TraceRecorder::begin(const v1::DirtyRecordingStart& start) {
    if (writer_) return nonsense("it began twice");
    const TraceHeader header{
        .touched_pages = start.touched_pages(),
        .block_pages = {start.block_pages().begin(), start.block_pages().end()}};
    GODWIT_ASSIGN_OR_RETURN(writer_, TraceWriter::begin(out_, header));
    start_ = start;
    return absl::OkStatus();
}

absl::Status TraceRecorder::add(const v1::DirtySet& set) {
    if (!writer_) return nonsense("a dirty set came before its start");
    if (set.runs_size() % 2 != 0) return nonsense("half a run");
    for (int i = 0; i < set.runs_size(); i += 2) {
        const uint64_t gap = set.runs(i);
        const uint64_t count = set.runs(i + 1);
        if (count == 0 || gap > kMostTracePages || count > kMostTracePages ||
            end_ > kMostTracePages)
            return nonsense("a run that no VM has");
        // Two blocks meet here.
        if (gap == 0 && !record_.runs.empty())
            record_.runs.back().count += count;
        else if (record_.runs.size() < kMostRuns)
            record_.runs.push_back({.first = end_ + gap, .count = count});
        else
            return absl::ResourceExhaustedError(
                "A dirty set has more runs than a trace can store: record shorter windows");
        end_ += gap + count;
        record_.page_count += count;
    }
    if (set.more()) return absl::OkStatus();
    record_.time_ns = set.time_ns();
    const DirtyRecord record = std::exchange(record_, {});
    end_ = 0;
    GODWIT_RETURN_IF_ERROR(writer_->add(record));
    errno = 0;
    out_.flush();  // whoever looks at the file sees it grow
    if (!out_) return trace_not_written();
    ++sets_;
    dirty_pages_ += record.page_count;
    time_ns_ = record.time_ns;
    return absl::OkStatus();
}

absl::Status TraceRecorder::finish() {
    if (sets_ == 0) return absl::FailedPreconditionError("nothing was recorded yet");
    GODWIT_RETURN_IF_ERROR(writer_->finish());
    errno = 0;
    out_.flush();
    return out_ ? absl::OkStatus() : trace_not_written();
}

}  // namespace godwit
