#include "bench/lab/service_client.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "engine/base/units.h"

namespace godwit {
namespace {

constexpr uint64_t kKeys = 1000;
constexpr Duration kAnswerLimit = std::chrono::seconds(30);  // then the connection counts as lost
constexpr Duration kConnectLimit = std::chrono::seconds(3);
constexpr Duration kTryAgainAfter = std::chrono::milliseconds(50);
constexpr Duration kPingPeriod = std::chrono::milliseconds(10);
constexpr size_t kMaxAnswer = 256;

sockaddr_in socket_address(const std::string& address, uint16_t port) {
    sockaddr_in there{};
    there.sin_family = AF_INET;
    there.sin_port = htons(port);
    ::inet_pton(AF_INET, address.c_str(), &there.sin_addr);
    return there;
}

absl::Status enter(int name_space) {
    if (name_space < 0 || ::setns(name_space, CLONE_NEWNET) == 0) return absl::OkStatus();
    return errno_status(errno, "setns");
}

// A connection to Redis. Errors of all: those of sockets; DeadlineExceeded; Cancelled.
class Redis {
  public:
    static absl::StatusOr<Redis> connect(const std::string& address, uint16_t port, int cancel_fd) {
        Redis redis;
        redis.fd_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (!redis.fd_.valid()) return errno_status(errno, "socket");
        const int one = 1;
        ::setsockopt(redis.fd_.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        const sockaddr_in there = socket_address(address, port);
        if (::connect(redis.fd_.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) !=
                0 &&
            errno != EINPROGRESS)
            return errno_status(errno, "connect");
        // What comes first is the answer to a first question, once the connection stands.
        const MonotonicTime deadline = Clock::system().now() + kConnectLimit;
        GODWIT_RETURN_IF_ERROR(redis.wait_connected(cancel_fd, deadline));
        GODWIT_ASSIGN_OR_RETURN(const std::string pong, redis.ask("PING", cancel_fd, deadline));
        if (pong != "+PONG") return absl::UnavailableError(pong);
        return redis;
    }

    // One line, or the one value of a GET ("" for none).
    absl::StatusOr<std::string> ask(const std::string& words, int cancel_fd,
                                    MonotonicTime deadline) {
        const std::string line = words + "\r\n";
        if (::send(fd_.get(), line.data(), line.size(), MSG_NOSIGNAL) !=
            static_cast<ssize_t>(line.size()))
            return errno_status(errno, "send");
        std::string answer;
        for (;;) {
            GODWIT_RETURN_IF_ERROR(wait_readable(fd_.get(), cancel_fd, deadline));
            std::array<char, kMaxAnswer> buffer;
            const ssize_t got = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
            if (got < 0 && (errno == EAGAIN || errno == EINTR)) continue;
            if (got < 0) return errno_status(errno, "recv");
            if (got == 0) return absl::UnavailableError("Redis has closed the connection");
            answer.append(buffer.data(), static_cast<size_t>(got));
            if (answer.size() > kMaxAnswer) return absl::InternalError("that is no answer");
            const size_t end = answer.find("\r\n");
            if (end == std::string::npos) continue;
            if (answer.front() != '$') return answer.substr(0, end);
            if (answer.starts_with("$-1")) return std::string();
            const size_t last = answer.find("\r\n", end + 2);
            if (last != std::string::npos) return answer.substr(end + 2, last - end - 2);
        }
    }

  private:
    Redis() = default;
    [[nodiscard]] absl::Status wait_connected(int cancel_fd, MonotonicTime deadline) const {
        // Writable, not readable, is what a connection is once it stands.
        std::array<pollfd, 2> both{{{.fd = fd_.get(), .events = POLLOUT, .revents = 0},
                                    {.fd = cancel_fd, .events = POLLIN, .revents = 0}}};
        const double left_ms = std::max(0.0, to_ms(deadline - Clock::system().now()));
        const int ready = ::poll(both.data(), both.size(), static_cast<int>(left_ms));
        if (ready == 0) return absl::DeadlineExceededError("there is no connection");
        if (ready > 0 && both[1].revents != 0) return absl::CancelledError("interrupted");
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(fd_.get(), SOL_SOCKET, SO_ERROR, &error, &size);
        return error == 0 ? absl::OkStatus() : errno_status(error, "connect");
    }
    UniqueFd fd_;
};

struct Key {
    uint64_t answered = 0, asked = 0;  // the last value of either; 0: none
};

absl::Status verify(Redis& redis, const std::vector<Key>& keys, ServiceSeen& seen) {
    const auto number = [&](const std::string& key) -> absl::StatusOr<double> {
        GODWIT_ASSIGN_OR_RETURN(const std::string text,
                                redis.ask("GET " + key, -1, Clock::system().now() + kAnswerLimit));
        return text.empty() ? 0 : std::strtod(text.c_str(), nullptr);
    };
    for (size_t i = 0; i < keys.size(); ++i) {
        GODWIT_ASSIGN_OR_RETURN(const double value, number(fmt::format("key:{}", i)));
        // What was asked for and never answered may be there or not.
        const bool there = value == static_cast<double>(keys[i].answered) ||
                           value == static_cast<double>(keys[i].asked);
        seen.lost_writes += there ? 0 : 1;
    }
    GODWIT_ASSIGN_OR_RETURN(seen.disk_good, number("disk:good"));
    GODWIT_ASSIGN_OR_RETURN(seen.disk_bad, number("disk:bad"));
    return absl::OkStatus();
}

uint16_t checksum(const icmphdr& header) {
    std::array<uint16_t, sizeof(icmphdr) / 2> words;
    std::memcpy(words.data(), &header, sizeof header);
    uint32_t sum = 0;
    for (const uint16_t word : words) sum += word;
    sum = (sum >> 16) + (sum & 0xffff);
    return static_cast<uint16_t>(~(sum + (sum >> 16)));
}

// The longest time between two of `times` that ends after `begin`; until `end` for the last.
double longest_gap_ms(const std::vector<MonotonicTime>& times, MonotonicTime begin,
                      MonotonicTime end) {
    Duration longest{};
    MonotonicTime last = begin;
    for (const MonotonicTime time : times) {
        if (time < begin || time > end) continue;
        longest = std::max(longest, Duration(time - last));
        last = time;
    }
    return to_ms(std::max(longest, Duration(end - last)));
}

double per_s(const std::vector<MonotonicTime>& times, MonotonicTime begin, MonotonicTime end) {
    const auto first = std::lower_bound(times.begin(), times.end(), begin);
    const auto last = std::lower_bound(first, times.end(), end);
    return end > begin ? static_cast<double>(last - first) * 1e3 / to_ms(end - begin) : 0;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceClient>> ServiceClient::start(const Options& options,
                                                                    Duration limit, int cancel_fd) {
    GODWIT_ASSIGN_OR_RETURN(Wakeup stopping, Wakeup::create());
    std::unique_ptr<ServiceClient> client(new ServiceClient(options, std::move(stopping)));
    const MonotonicTime deadline = Clock::system().now() + limit;
    absl::Status up = absl::DeadlineExceededError("the service does not answer");
    // In a thread of its own, which may go to another namespace.
    std::jthread([&] {
        if (up = enter(options.name_space); !up.ok()) return;
        do {
            up = Redis::connect(options.address, options.port, cancel_fd).status();
            if (up.ok() || absl::IsCancelled(up)) return;
        } while (absl::IsDeadlineExceeded(
                     wait_readable(-1, cancel_fd, Clock::system().now() + kTryAgainAfter)) &&
                 Clock::system().now() < deadline);
    }).join();
    if (!up.ok()) return annotate(up, "the guest's service is not up");
    client->asker_ = std::jthread([raw = client.get()] { raw->ask(); });
    client->pinger_ = std::jthread([raw = client.get()] { raw->ping(); });
    return client;
}

ServiceClient::~ServiceClient() {
    if (asker_.joinable()) (void)stop();
}

void ServiceClient::ask() {
    set_thread_name("client");
    verified_ = enter(options_.name_space);
    if (!verified_.ok()) return;
    std::vector<Key> keys(kKeys);
    const auto connected = [&] {
        return Redis::connect(options_.address, options_.port, stopping_.fd());
    };
    auto redis = connected();
    for (uint64_t number = 1;; ++number) {
        if (!redis.ok()) {
            if (absl::IsCancelled(redis.status()) ||
                absl::IsCancelled(
                    wait_readable(-1, stopping_.fd(), Clock::system().now() + kTryAgainAfter)))
                break;
            redis = connected();
            continue;
        }
        Key& key = keys[number % kKeys];
        key.asked = number;
        const auto answer = redis->ask(fmt::format("SET key:{} {}", number % kKeys, number), -1,
                                       Clock::system().now() + kAnswerLimit);
        if (answer.ok() && *answer == "+OK") {
            seen_.answers.push_back(Clock::system().now());
            key.answered = number;
        } else {
            ++seen_.lost_connections;
            redis = answer.ok() ? absl::InternalError(*answer) : answer.status();
        }
        if (wait_readable(stopping_.fd(), -1, Clock::system().now()).ok()) break;
    }
    if (!redis.ok()) redis = Redis::connect(options_.address, options_.port, -1);
    verified_ = redis.ok() ? verify(*redis, keys, seen_) : redis.status();
}

void ServiceClient::ping() {
    set_thread_name("ping");
    if (!enter(options_.name_space).ok()) return;
    const UniqueFd socket(::socket(AF_INET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_ICMP));
    if (!socket.valid()) return;
    const sockaddr_in there = socket_address(options_.address, 0);
    const auto id = static_cast<uint16_t>(::getpid());
    MonotonicTime next = Clock::system().now();
    while (absl::IsDeadlineExceeded(wait_readable(stopping_.fd(), -1, Clock::system().now()))) {
        if (Clock::system().now() >= next) {
            icmphdr header{};
            header.type = ICMP_ECHO;
            header.un.echo.id = id;
            header.un.echo.sequence = htons(static_cast<uint16_t>(pinged_.pings_sent));
            header.checksum = checksum(header);
            // One that cannot be sent is as lost as one that is not answered.
            (void)::sendto(socket.get(), &header, sizeof header, 0,
                           reinterpret_cast<const sockaddr*>(&there), sizeof there);
            ++pinged_.pings_sent;
            next += kPingPeriod;
        }
        if (!wait_readable(socket.get(), stopping_.fd(), next).ok()) continue;
        std::array<char, kMaxAnswer> packet;
        const ssize_t got = ::recv(socket.get(), packet.data(), packet.size(), 0);
        icmphdr header{};
        const size_t begin = got > 0 ? static_cast<size_t>(packet[0] & 0xf) * 4 : 0;
        if (got < static_cast<ssize_t>(begin + sizeof header)) continue;
        std::memcpy(&header, packet.data() + begin, sizeof header);
        if (header.type == ICMP_ECHOREPLY && header.un.echo.id == id)
            pinged_.pings.push_back(Clock::system().now());
    }
}

absl::StatusOr<ServiceSeen> ServiceClient::stop() {
    stopping_.notify();
    for (std::jthread* thread : {&asker_, &pinger_})
        if (thread->joinable()) thread->join();
    seen_.pings = std::move(pinged_.pings);
    seen_.pings_sent = pinged_.pings_sent;
    if (!verified_.ok()) return annotate(verified_, "the guest's service after its move");
    return std::move(seen_);
}

Metrics service_metrics(const ServiceSeen& seen, const MoveTimes& times) {
    Metrics metrics{
        {"client_before_per_s", per_s(seen.answers, times.begun, times.requested)},
        {"client_during_per_s", per_s(seen.answers, times.requested, times.done)},
        {"client_after_per_s", per_s(seen.answers, times.done, times.ended)},
        {"client_blackout_ms", longest_gap_ms(seen.answers, times.requested, times.ended)},
        {"client_lost_connections", seen.lost_connections},
        {"client_lost_writes", seen.lost_writes},
        {"disk_rounds", seen.disk_good + seen.disk_bad},
        {"disk_errors", seen.disk_bad}};
    if (seen.pings_sent == 0) return metrics;
    metrics["ping_blackout_ms"] = longest_gap_ms(seen.pings, times.requested, times.ended);
    metrics["pings_lost"] = seen.pings_sent - static_cast<double>(seen.pings.size());
    return metrics;
}

}  // namespace godwit
