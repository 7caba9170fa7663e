#include "engine/base/wait.h"

#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace godwit {

absl::StatusOr<Wakeup> Wakeup::create() {
    UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    if (!fd.valid()) return errno_status(errno, "eventfd");
    return Wakeup(std::move(fd));
}

void Wakeup::notify() const {
    const uint64_t one = 1;
    // Fails only when the counter is full, and then it is readable already.
    (void)!::write(fd_.get(), &one, sizeof one);
}

void Wakeup::drain() const {
    uint64_t count = 0;
    (void)!::read(fd_.get(), &count, sizeof count);
}

absl::Status wait_readable(int fd, int cancel_fd, std::optional<MonotonicTime> deadline) {
    std::array<pollfd, 2> fds{{{fd, POLLIN, 0}, {cancel_fd, POLLIN, 0}}};
    while (true) {
        timespec timeout{};
        if (deadline) {
            const auto left =
                std::max<Duration>(*deadline - Clock::system().now(), Duration::zero());
            timeout.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
            timeout.tv_nsec = (left % std::chrono::seconds(1)).count();
        }
        const int ready = ::ppoll(fds.data(), fds.size(), deadline ? &timeout : nullptr, nullptr);
        if (ready < 0 && errno == EINTR) continue;
        if (ready < 0) return errno_status(errno, "ppoll");
        if (ready == 0) return absl::DeadlineExceededError("timed out");
        if (fds[1].revents != 0) return absl::CancelledError("cancelled");
        return absl::OkStatus();
    }
}

void set_thread_name(const char* name) {
    std::array<char, 16> shortened{};
    std::strncpy(shortened.data(), name, shortened.size() - 1);
    ::pthread_setname_np(::pthread_self(), shortened.data());
}

}  // namespace godwit
