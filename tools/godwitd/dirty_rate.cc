#include "tools/godwitd/dirty_rate.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/wait.h"
#include "engine/verify/ram_hash.h"
#include "tools/godwitd/tracker_choice.h"

namespace godwit {
namespace {

constexpr size_t kMaxWindows = 32;
constexpr Duration kShortest = std::chrono::milliseconds(1);
constexpr Duration kLongest = std::chrono::minutes(10);
constexpr Duration kAskForCancel = std::chrono::milliseconds(100);

}  // namespace

absl::Status watch_until(Vm& vm, MonotonicTime moment, const std::function<bool()>& cancelled) {
    while (true) {
        const MonotonicTime now = Clock::system().now();
        if (now >= moment) return absl::OkStatus();
        if (cancelled()) return absl::CancelledError("cancelled");
        const absl::Status gone =
            wait_readable(vm.gone_fd(), -1, std::min(moment, now + kAskForCancel));
        if (gone.ok()) return absl::NotFoundError("the VM ended while it was measured");
        if (!absl::IsDeadlineExceeded(gone)) return gone;
    }
}

absl::StatusOr<std::vector<Duration>> dirty_rate_windows(
    const v1::MeasureDirtyRateRequest& request) {
    std::vector<Duration> windows;
    for (const uint64_t window_us : request.windows_us()) {
        // Compared before it is multiplied: a huge number must not wrap round.
        const bool fits =
            window_us <=
            static_cast<uint64_t>(
                std::chrono::duration_cast<std::chrono::microseconds>(kLongest).count());
        const Duration window = std::chrono::microseconds(fits ? window_us : 0);
        if (window < kShortest)
            return absl::InvalidArgumentError(
                fmt::format("a window of {} us: it must be 1 ms to 10 minutes", window_us));
        windows.push_back(window);
    }
    if (windows.size() > kMaxWindows)
        return absl::InvalidArgumentError(
            fmt::format("{} windows; {} is the limit", windows.size(), kMaxWindows));
    if (windows.empty())
        windows = {std::chrono::milliseconds(50), std::chrono::milliseconds(200),
                   std::chrono::seconds(1), std::chrono::seconds(5)};
    std::sort(windows.begin(), windows.end());
    windows.erase(std::unique(windows.begin(), windows.end()), windows.end());
    return windows;
}

absl::StatusOr<v1::DirtyRate> measure_dirty_rate(Vm& vm, const std::string& tracker_name,
                                                 const std::vector<Duration>& windows,
                                                 const std::function<bool()>& cancelled) {
    GODWIT_ASSIGN_OR_RETURN(const TrackerChoice choice, choose_tracker(vm, tracker_name));
    v1::DirtyRate rate;
    rate.set_vm(vm.spec().name());
    GODWIT_ASSIGN_OR_RETURN(const uint64_t touched, allocated_pages(vm.ram_blocks()));
    rate.set_touched_bytes(touched * kPageBytes);

    PageSet dirty;
    for (const RamBlock& block : vm.ram_blocks()) dirty.emplace_back(block.page_count());
    PageSet unsettled = dirty;
    // The sets only grow: what was written once counts once in every longer window.
    GODWIT_RETURN_IF_ERROR(choice.tracker->start());
    rate.set_tracker(std::string(choice.tracker->name()));
    rate.set_tracker_reason(choice.tracker->reason());
    const MonotonicTime begin = Clock::system().now();
    absl::Status status;
    for (const Duration window : windows) {
        status = watch_until(vm, begin + window, cancelled);
        if (status.ok()) status = choice.tracker->collect(dirty, unsettled);
        if (!status.ok()) break;
        const Duration length = Clock::system().now() - begin;
        v1::DirtyRatePoint& point = *rate.add_points();
        point.set_window_ms(to_ms(length));
        point.set_dirty_pages(count_pages(dirty));
        point.set_dirty_bytes(point.dirty_pages() * kPageBytes);
        point.set_dirty_pages_per_s(static_cast<double>(point.dirty_pages()) /
                                    std::chrono::duration<double>(length).count());
    }
    status.Update(choice.tracker->stop());
    GODWIT_RETURN_IF_ERROR(status);
    return rate;
}

}  // namespace godwit
