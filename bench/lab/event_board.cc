#include "bench/lab/event_board.h"

#include <fmt/format.h>
#include <poll.h>

#include <algorithm>
#include <cerrno>

namespace godwit {

absl::StatusOr<std::unique_ptr<EventBoard>> EventBoard::create(int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    return std::unique_ptr<EventBoard>(new EventBoard(std::move(wakeup), cancel_fd));
}

QmpClient::OnEvent EventBoard::listener(Side side) {
    return [this, side](const QmpEvent& event, MonotonicTime at) {
        {
            const std::lock_guard lock(mutex_);
            events_.push_back({.side = side,
                               .name = event.name,
                               .status = json_text(event.data, "status"),
                               .pass = json_number(event.data, "pass"),
                               .stamp = event.stamp,
                               .at = at});
        }
        wakeup_.notify();
    };
}

absl::StatusOr<SeenEvent> EventBoard::wait(const WantedEvent& wanted, MonotonicTime deadline) {
    const auto fits = [&](const SeenEvent& event) {
        return event.side == wanted.side && event.name == wanted.name &&
               (wanted.status.empty() || event.status == wanted.status) &&
               event.pass >= wanted.pass;
    };
    while (true) {
        {
            const std::lock_guard lock(mutex_);
            const auto found = std::find_if(events_.begin(), events_.end(), fits);
            if (found != events_.end()) return *found;
            for (const SeenEvent& event : events_)
                if (event.name == "MIGRATION" && event.status == "failed")
                    return absl::AbortedError(
                        fmt::format("the migration failed at the {}",
                                    event.side == Side::kSource ? "source" : "destination"));
        }
        GODWIT_RETURN_IF_ERROR(
            annotate(wait_more(deadline), fmt::format("{} {}", wanted.name, wanted.status)));
    }
}

std::vector<SeenEvent> EventBoard::seen() {
    const std::lock_guard lock(mutex_);
    return events_;
}

absl::Status EventBoard::wait_more(MonotonicTime deadline) {
    std::vector<pollfd> fds{{wakeup_.fd(), POLLIN, 0}, {cancel_fd_, POLLIN, 0}};
    for (const int pidfd : pidfds_) fds.push_back({pidfd, POLLIN, 0});
    while (true) {
        const auto left = std::max<Duration>(deadline - Clock::system().now(), Duration::zero());
        const timespec timeout{
            .tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count(),
            .tv_nsec = (left % std::chrono::seconds(1)).count()};
        const int ready = ::ppoll(fds.data(), fds.size(), &timeout, nullptr);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return errno_status(errno, "ppoll");
        if (ready == 0) return absl::DeadlineExceededError("it did not come in time");
        break;
    }
    if (fds[1].revents != 0) return absl::CancelledError("interrupted");
    // Events first: those that a QEMU wrote before it ended still count.
    if (fds[0].revents != 0) {
        wakeup_.drain();
        return absl::OkStatus();
    }
    return absl::AbortedError("a QEMU ended");
}

double ms_between(const SeenEvent& begin, const SeenEvent& end) {
    return static_cast<double>((end.stamp - begin.stamp).count()) / 1e3;
}

}  // namespace godwit
