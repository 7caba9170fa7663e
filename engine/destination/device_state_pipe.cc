#include "engine/destination/device_state_pipe.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

namespace godwit {
namespace {

// What a part costs beside its bytes, about.
constexpr Bytes kPartBytes = 64;

}  // namespace

DeviceStatePipe::DeviceStatePipe(UniqueFd socket, Wakeup wakeup, Bytes max_waiting)
    : socket_(std::move(socket)), wakeup_(std::move(wakeup)), max_waiting_(max_waiting) {}

absl::StatusOr<std::unique_ptr<DeviceStatePipe>> DeviceStatePipe::create(UniqueFd socket,
                                                                         Bytes max_waiting) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    std::unique_ptr<DeviceStatePipe> pipe(
        new DeviceStatePipe(std::move(socket), std::move(wakeup), max_waiting));
    pipe->thread_ = std::jthread([self = pipe.get()](const std::stop_token& stop) {
        set_thread_name("device-state");
        self->run(stop);
    });
    return pipe;
}

DeviceStatePipe::~DeviceStatePipe() {
    thread_.request_stop();
    wakeup_.notify();
}

absl::Status DeviceStatePipe::write(std::span<const std::byte> bytes) {
    written_ += bytes.size();
    const std::lock_guard lock(mutex_);
    if (ended_) return absl::InvalidArgumentError("device state behind its end");
    if (waiting_ + bytes.size() + kPartBytes > max_waiting_)
        return absl::ResourceExhaustedError(
            fmt::format("QEMU has left {} of its device state unread", waiting_));
    waiting_ += bytes.size() + kPartBytes;
    parts_.emplace_back(bytes.begin(), bytes.end());
    changed_.notify_all();
    return absl::OkStatus();
}

void DeviceStatePipe::end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    changed_.notify_all();
}

void DeviceStatePipe::run(const std::stop_token& stop) {
    bool wanted = true;
    while (true) {
        std::vector<std::byte> part;
        {
            std::unique_lock lock(mutex_);
            if (!changed_.wait(lock, stop, [this] { return ended_ || !parts_.empty(); })) return;
            if (parts_.empty()) break;
            part = std::move(parts_.front());
            parts_.pop_front();
            waiting_ -= part.size() + kPartBytes;
        }
        wanted = wanted && hand_over(part, stop);
    }
    ::shutdown(socket_.get(), SHUT_WR);
}

// False: QEMU reads no more.
bool DeviceStatePipe::hand_over(std::span<const std::byte> bytes, const std::stop_token& stop) {
    while (!bytes.empty() && !stop.stop_requested()) {
        std::array<pollfd, 2> fds{{{socket_.get(), POLLOUT, 0}, {wakeup_.fd(), POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return false;
        const ssize_t put =
            ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
        if (put < 0 && (errno == EAGAIN || errno == EINTR)) continue;
        if (put < 0) return false;
        bytes = bytes.subspan(static_cast<size_t>(put));
    }
    return true;
}

}  // namespace godwit
