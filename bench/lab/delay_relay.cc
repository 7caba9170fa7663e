#include "bench/lab/delay_relay.h"

#include <fcntl.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <vector>

namespace godwit {
namespace {

constexpr size_t kMaxPacket = 65536;
constexpr int kPacketsAtOnce = 64;

struct Packet {
    MonotonicTime due;
    std::vector<char> data;
};

// Waits for a packet or for the moment when the next one is due; false when it is to end.
bool wait_for_packet(int fd, int stop_fd, const std::deque<Packet>& under_way) {
    std::array<pollfd, 2> fds{{{fd, POLLIN, 0}, {stop_fd, POLLIN, 0}}};
    timespec timeout{};
    if (!under_way.empty()) {
        const Duration left =
            std::max<Duration>(under_way.front().due - Clock::system().now(), Duration::zero());
        timeout.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
        timeout.tv_nsec = (left % std::chrono::seconds(1)).count();
    }
    ::ppoll(fds.data(), fds.size(), under_way.empty() ? nullptr : &timeout, nullptr);
    return fds[1].revents == 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<DelayRelay>> DelayRelay::start(Options options) {
    for (const UniqueFd& end : options.ends)
        if (::fcntl(end.get(), F_SETFL, O_NONBLOCK) != 0) return errno_status(errno, "fcntl");
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopping, Wakeup::create());
    std::unique_ptr<DelayRelay> relay(new DelayRelay(std::move(options), std::move(stopping)));
    for (const size_t from : {size_t{0}, size_t{1}})
        relay->threads_[from] = std::jthread([raw = relay.get(), from] { raw->carry(from); });
    return relay;
}

DelayRelay::~DelayRelay() {
    stopping_.notify();
    for (std::jthread& thread : threads_)
        if (thread.joinable()) thread.join();
}

void DelayRelay::carry(size_t from) {
    set_thread_name(from == 0 ? "cable-there" : "cable-back");
    // A busy host lengthens no cable. Refused without CAP_SYS_NICE.
    const sched_param parameters{.sched_priority = 1};
    ::pthread_setschedparam(::pthread_self(), SCHED_FIFO, &parameters);
    const int in = options_.ends[from].get();
    const int out = options_.ends[1 - from].get();
    std::vector<char> buffer(kMaxPacket);
    std::deque<Packet> under_way;
    Bytes under_way_bytes = 0;
    while (wait_for_packet(in, stopping_.fd(), under_way)) {
        for (int i = 0; i < kPacketsAtOnce; ++i) {
            const ssize_t got = ::read(in, buffer.data(), buffer.size());
            if (got <= 0) break;
            const auto size = static_cast<size_t>(got);
            if (under_way_bytes + size > options_.capacity) {
                ++dropped_;
                continue;
            }
            under_way.push_back({Clock::system().now() + options_.delay,
                                 std::vector<char>(buffer.begin(), buffer.begin() + got)});
            under_way_bytes += size;
        }
        while (!under_way.empty() && under_way.front().due <= Clock::system().now()) {
            const std::vector<char>& data = under_way.front().data;
            // What the other end has no room for is lost, as on any cable.
            if (::write(out, data.data(), data.size()) < 0) ++dropped_;
            under_way_bytes -= data.size();
            under_way.pop_front();
        }
    }
}

absl::StatusOr<UniqueFd> open_tun(const char* name) {
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_CLOEXEC));
    if (!fd.valid()) return errno_status(errno, "Cannot open /dev/net/tun (modprobe tun)");
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strncpy(request.ifr_name, name, IFNAMSIZ - 1);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0)
        return errno_status(errno, "Cannot make a TUN device");
    return fd;
}

}  // namespace godwit
