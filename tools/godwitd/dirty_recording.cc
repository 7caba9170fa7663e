#include "tools/godwitd/dirty_recording.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/wait.h"
#include "engine/verify/ram_hash.h"
#include "tools/godwitd/tracker_choice.h"

namespace godwit {
namespace {

constexpr uint64_t kLongestRecordingMs = uint64_t{24} * 3600 * 1000;
constexpr uint64_t kShortestWindowUs = 10'000;
constexpr uint64_t kLongestWindowUs = uint64_t{600} * 1'000'000;
constexpr Duration kAskAgain = std::chrono::milliseconds(100);
// A process that is killed closes its sockets before its pidfd tells of its end; its memory is
// given back in between.
constexpr Duration kEndsWithin = std::chrono::seconds(2);

enum class Pause { kOver, kVmEnded };

// Until `moment`. Errors: Cancelled, poll's.
absl::StatusOr<Pause> pause_until(Vm& vm, MonotonicTime moment,
                                  const std::function<bool()>& cancelled) {
    while (true) {
        if (cancelled()) return absl::CancelledError("cancelled");
        const MonotonicTime now = Clock::system().now();
        const absl::Status gone =
            wait_readable(vm.gone_fd(), -1, std::min(moment, now + kAskAgain));
        if (gone.ok()) return Pause::kVmEnded;
        if (!absl::IsDeadlineExceeded(gone)) return gone;
        if (now >= moment) return Pause::kOver;
    }
}

bool has_ended(Vm& vm, Duration within = {}) {
    return wait_readable(vm.gone_fd(), -1, Clock::system().now() + within).ok();
}

absl::Status rearm_set(DirtyTracker& tracker, const PageSet& dirty) {
    absl::Status status;
    for (BlockIndex block = 0; block < dirty.size(); ++block)
        dirty[block].for_each_run([&](PageRange run) {
            if (status.ok()) status = tracker.rearm(block, run);
        });
    return status;
}

absl::StatusOr<v1::DirtyRecording> start_message(Vm& vm, const DirtyTracker& tracker) {
    v1::DirtyRecording message;
    v1::DirtyRecordingStart& start = *message.mutable_start();
    start.set_vm(vm.spec().name());
    start.set_tracker(std::string(tracker.name()));
    start.set_tracker_reason(tracker.reason());
    GODWIT_ASSIGN_OR_RETURN(const uint64_t touched, allocated_pages(vm.ram_blocks()));
    start.set_touched_pages(touched);
    for (const RamBlock& block : vm.ram_blocks()) start.add_block_pages(block.page_count());
    return message;
}

// Ok: the time is over, or the VM is gone and that was written.
absl::Status record_windows(Vm& vm, DirtyTracker& tracker, const RecordingTimes& times,
                            const std::function<bool()>& cancelled,
                            const std::function<bool(const v1::DirtyRecording&)>& write) {
    PageSet dirty;
    for (const RamBlock& block : vm.ram_blocks()) dirty.emplace_back(block.page_count());
    const MonotonicTime begin = Clock::system().now();
    Duration elapsed{};
    while (elapsed < times.length) {
        // Windows that took longer than they should are not made up for.
        const Duration next = std::min((elapsed / times.window + 1) * times.window, times.length);
        GODWIT_ASSIGN_OR_RETURN(const Pause pause, pause_until(vm, begin + next, cancelled));
        absl::Status status;
        if (pause == Pause::kOver) status = tracker.collect(dirty, dirty);
        elapsed = Clock::system().now() - begin;
        if (pause == Pause::kOver && status.ok()) status = rearm_set(tracker, dirty);
        // A tracker that fails because its VM has just ended has done nothing wrong.
        if (pause == Pause::kVmEnded || (!status.ok() && has_ended(vm, kEndsWithin))) {
            v1::DirtyRecording last;
            last.set_ended_early(fmt::format("the VM ended after {:.1f} s", to_ms(elapsed) / 1e3));
            write(last);
            return absl::OkStatus();
        }
        GODWIT_RETURN_IF_ERROR(status);
        if (!send_dirty_set(dirty, elapsed, write)) return absl::CancelledError("cancelled");
        clear_pages(dirty);
    }
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<RecordingTimes> recording_times(const v1::RecordDirtyRequest& request) {
    // Compared before they are multiplied: a huge number must not wrap round.
    if (request.duration_ms() > kLongestRecordingMs)
        return absl::InvalidArgumentError(fmt::format("duration_ms is {}; it must be at most {}",
                                                      request.duration_ms(), kLongestRecordingMs));
    if (request.window_us() != 0 &&
        (request.window_us() < kShortestWindowUs || request.window_us() > kLongestWindowUs))
        return absl::InvalidArgumentError(fmt::format("window_us is {}; it must be {} to {}",
                                                      request.window_us(), kShortestWindowUs,
                                                      kLongestWindowUs));
    RecordingTimes times;
    if (request.duration_ms() > 0) times.length = std::chrono::milliseconds(request.duration_ms());
    if (request.window_us() > 0) times.window = std::chrono::microseconds(request.window_us());
    return times;
}

bool send_dirty_set(const PageSet& dirty, Duration time,
                    const std::function<bool(const v1::DirtyRecording&)>& write) {
    v1::DirtyRecording message;
    const auto set_time = [&] {
        message.mutable_set()->set_time_ns(static_cast<uint64_t>(time.count()));
    };
    set_time();
    uint64_t block_begin = 0;
    uint64_t end = 0;  // of the run before
    for (const PageBitmap& block : dirty) {
        for (PageIndex page = block.next_set(0); page < block.page_count();) {
            const PageIndex run_end = block.next_clear(page);
            if (message.set().runs_size() == 2 * kMostRunsOfMessage) {
                message.mutable_set()->set_more(true);
                if (!write(message)) return false;
                message.Clear();
                set_time();
            }
            message.mutable_set()->add_runs(block_begin + page - end);
            message.mutable_set()->add_runs(run_end - page);
            end = block_begin + run_end;
            page = block.next_set(run_end);
        }
        block_begin += block.page_count();
    }
    return write(message);
}

absl::Status record_dirty(Vm& vm, const std::string& tracker_name, const RecordingTimes& times,
                          const std::function<bool()>& cancelled,
                          const std::function<bool(const v1::DirtyRecording&)>& write) {
    GODWIT_ASSIGN_OR_RETURN(const TrackerChoice choice, choose_tracker(vm, tracker_name));
    GODWIT_RETURN_IF_ERROR(choice.tracker->start());
    absl::StatusOr<v1::DirtyRecording> start = start_message(vm, *choice.tracker);
    absl::Status status = start.status();
    if (status.ok() && !write(*start)) status = absl::CancelledError("cancelled");
    if (status.ok()) status = record_windows(vm, *choice.tracker, times, cancelled, write);
    const absl::Status stopped = choice.tracker->stop();
    // Of a VM that is gone nothing can be taken back.
    if (!has_ended(vm)) status.Update(stopped);
    return status;
}

}  // namespace godwit
