#include "tests/harness/lying_cable.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <span>
#include <string_view>
#include <utility>

namespace godwit::testing {
namespace {

constexpr size_t kLargestPacket = 65536;
constexpr size_t kLargeSegment = 1000;
// Behind the head of a frame that began in the packet before.
constexpr size_t kBehindAHead = 700;
constexpr uint64_t kTruthsAtFirst = 200;
constexpr std::string_view kMagic = "GDWT";  // of a frame

absl::StatusOr<UniqueFd> open_tun(const std::string& device) {
    UniqueFd fd(::open("/dev/net/tun", O_RDWR | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return errno_status(errno, "/dev/net/tun");
    ifreq request{};
    request.ifr_flags = IFF_TUN | IFF_NO_PI;
    std::strncpy(request.ifr_name, device.c_str(), IFNAMSIZ - 1);
    if (::ioctl(fd.get(), TUNSETIFF, &request) != 0) return errno_status(errno, "TUNSETIFF");
    return fd;
}

// The thread that goes there is gone at once.
absl::StatusOr<UniqueFd> open_tun_at(pid_t host, const std::string& device) {
    absl::StatusOr<UniqueFd> tun = absl::InternalError("no thread");
    std::thread([&] {
        const UniqueFd there(
            ::open(fmt::format("/proc/{}/ns/net", host).c_str(), O_RDONLY | O_CLOEXEC));
        if (::setns(there.get(), CLONE_NEWNET) == 0)
            tun = open_tun(device);
        else
            tun = errno_status(errno, "setns");
    }).join();
    return tun;
}

// The payload of a TCP segment over IPv4; empty of any other packet.
std::span<char> payload_of(std::span<char> packet) {
    const auto byte = [&](size_t at) { return static_cast<uint8_t>(packet[at]); };
    if (packet.size() < 40 || byte(0) >> 4 != 4 || byte(9) != IPPROTO_TCP) return {};
    const size_t ip_bytes = size_t{4} * (byte(0) & 15);
    if (packet.size() < ip_bytes + 20) return {};
    const size_t head = ip_bytes + size_t{4} * (byte(ip_bytes + 12) >> 4);
    return head < packet.size() ? packet.subspan(head) : std::span<char>{};
}

// False where all words are the same.
bool swap_two_words(std::span<char> payload) {
    constexpr size_t kWord = 2;
    for (size_t at = kBehindAHead; at + 2 * kWord <= payload.size(); at += kWord) {
        char* const word = payload.data() + at;
        if (std::equal(word, word + kWord, word + kWord)) continue;
        std::swap_ranges(word, word + kWord, word + kWord);
        return true;
    }
    return false;
}

}  // namespace

absl::StatusOr<std::unique_ptr<LyingCable>> LyingCable::lay(const std::array<pid_t, 2>& hosts,
                                                            const std::string& device) {
    std::array<UniqueFd, 2> ends;
    for (size_t host = 0; host < ends.size(); ++host) {
        GODWIT_ASSIGN_OR_RETURN(ends[host], open_tun_at(hosts[host], device));
    }
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopping, Wakeup::create());
    std::unique_ptr<LyingCable> cable(new LyingCable(std::move(ends), std::move(stopping)));
    cable->thread_ = std::jthread([raw = cable.get()] { raw->carry(); });
    return cable;
}

LyingCable::~LyingCable() {
    stopping_.notify();
    if (thread_.joinable()) thread_.join();
}

void LyingCable::lie(uint64_t every, uint64_t most) {
    most_ = most;
    every_ = every;
}

void LyingCable::carry() {
    while (true) {
        std::array<pollfd, 3> fds{{{ends_[0].get(), POLLIN, 0},
                                   {ends_[1].get(), POLLIN, 0},
                                   {stopping_.fd(), POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return;
        if (fds[2].revents != 0) return;
        for (const size_t from : {size_t{0}, size_t{1}})
            if (fds[from].revents != 0) pass(from);
    }
}

void LyingCable::pass(size_t from) {
    constexpr int kAtOnce = 64;
    std::array<char, kLargestPacket> buffer;
    for (int i = 0; i < kAtOnce; ++i) {
        const ssize_t got = ::read(ends_[from].get(), buffer.data(), buffer.size());
        if (got <= 0) return;
        const std::span packet(buffer.data(), static_cast<size_t>(got));
        const std::span payload = payload_of(packet);
        const uint64_t every = every_;
        if (from == 0 && every > 0 && payload.size() >= kLargeSegment &&
            std::string_view(payload.data(), payload.size()).find(kMagic) ==
                std::string_view::npos &&
            ++seen_ > kTruthsAtFirst && seen_ % every == 0 && lies_ < most_ &&
            swap_two_words(payload))
            ++lies_;
        // What the other end has no room for is lost, as on any cable.
        (void)!::write(ends_[1 - from].get(), packet.data(), packet.size());
    }
}

}  // namespace godwit::testing
