#include "bench/lab/shaped_link.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <iterator>
#include <sstream>
#include <thread>
#include <vector>

#include "engine/guest/qemu/process.h"

namespace godwit {
namespace {

constexpr const char* kDevice = "cable";
constexpr Duration kLinkLimit = std::chrono::seconds(20);
// Several of the 64 KiB that TCP hands to a device at once.
constexpr Bytes kBurst = Bytes{256} << 10;
// What a switch between the two would hold back before it drops.
constexpr const char* kLatency = "20ms";

std::string address_of(int host) { return fmt::format("10.77.0.{}", host + 1); }

// Under way at most, beside what the rate and the delay ask for.
constexpr Bytes kSlack = Bytes{4} << 20;
constexpr Bytes kUnlimitedCapacity = Bytes{256} << 20;

// In another namespace; the thread that goes there is gone at once.
absl::StatusOr<UniqueFd> open_tun_in(int name_space) {
    absl::StatusOr<UniqueFd> tun = absl::InternalError("no thread");
    std::thread([&] {
        if (::setns(name_space, CLONE_NEWNET) == 0)
            tun = open_tun(kDevice);
        else
            tun = errno_status(errno, "setns");
    }).join();
    return tun;
}

}  // namespace

absl::StatusOr<UniqueFd> make_network_namespace() {
    UniqueFd fd;
    int error = 0;
    std::thread([&] {
        if (::unshare(CLONE_NEWNET) == 0)
            fd.reset(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
        error = errno;
    }).join();
    if (!fd.valid()) return errno_status(error, "Cannot make a network namespace");
    return fd;
}

absl::StatusOr<std::unique_ptr<ShapedLink>> ShapedLink::create(Bytes bytes_per_s, Duration delay,
                                                               Bytes burst) {
    std::array<UniqueFd, 2> namespaces;
    for (UniqueFd& one : namespaces) {
        GODWIT_ASSIGN_OR_RETURN(one, make_network_namespace());
    }
    std::unique_ptr<ShapedLink> link(new ShapedLink(std::move(namespaces)));
    if (delay > Duration::zero())
        GODWIT_RETURN_IF_ERROR(link->lay_relay(bytes_per_s, delay, burst));
    else
        GODWIT_RETURN_IF_ERROR(link->lay_veth());
    GODWIT_RETURN_IF_ERROR(link->lay(bytes_per_s, burst > 0 ? burst : kBurst));
    return link;
}

std::string ShapedLink::path(int host) const {
    return fmt::format("/proc/{}/fd/{}", ::getpid(), namespaces_[static_cast<size_t>(host)].get());
}

std::array<LabHost, 2> ShapedLink::hosts() const {
    std::array<LabHost, 2> hosts;
    for (const int host : {0, 1})
        hosts[static_cast<size_t>(host)] = {
            .address = address_of(host),
            .wrapper = {"nsenter", "--net=" + path(host)},
            .name_space = namespaces_[static_cast<size_t>(host)].get()};
    return hosts;
}

absl::StatusOr<std::string> ShapedLink::run(int host, std::vector<std::string> words) const {
    GODWIT_ASSIGN_OR_RETURN(std::string nsenter, find_program("nsenter"));
    std::vector<std::string> argv{std::move(nsenter), "--net=" + path(host)};
    argv.insert(argv.end(), words.begin(), words.end());
    auto out = run_and_capture(argv, kLinkLimit);
    if (!out.ok()) return annotate(out.status(), fmt::format("Cannot make a link: {}", words[0]));
    return out;
}

absl::Status ShapedLink::lay_veth() const {
    return run(0, {"ip", "link", "add", kDevice, "type", "veth", "peer", "name", kDevice, "netns",
                   path(1)})
        .status();
}

absl::Status ShapedLink::lay_relay(Bytes bytes_per_s, Duration delay, Bytes burst) {
    std::array<UniqueFd, 2> ends;
    for (const size_t host : {size_t{0}, size_t{1}}) {
        GODWIT_ASSIGN_OR_RETURN(ends[host], open_tun_in(namespaces_[host].get()));
        // The queue between the device and the relay, which may be late.
        GODWIT_RETURN_IF_ERROR(
            run(static_cast<int>(host), {"ip", "link", "set", kDevice, "txqueuelen", "10000"})
                .status());
    }
    const double seconds = to_ms(delay) / 1e3;
    const auto of_rate = static_cast<Bytes>(2 * seconds * static_cast<double>(bytes_per_s));
    GODWIT_ASSIGN_OR_RETURN(
        relay_, DelayRelay::start(
                    {.ends = std::move(ends),
                     .delay = delay,
                     .capacity = bytes_per_s > 0 ? kSlack + of_rate + burst : kUnlimitedCapacity}));
    return absl::OkStatus();
}

absl::Status ShapedLink::lay(Bytes bytes_per_s, Bytes burst) const {
    for (const int host : {0, 1}) {
        std::vector<std::vector<std::string>> commands{
            {"ip", "address", "add", address_of(host) + "/24", "dev", kDevice},
            {"ip", "link", "set", "lo", "up"},
            {"ip", "link", "set", kDevice, "up"}};
        if (bytes_per_s > 0)
            commands.push_back({"tc", "qdisc", "add", "dev", kDevice, "root", "tbf", "rate",
                                fmt::format("{}bit", bytes_per_s * 8), "burst",
                                fmt::format("{}b", burst), "latency", kLatency});
        for (const std::vector<std::string>& words : commands)
            GODWIT_RETURN_IF_ERROR(run(host, words).status());
    }
    return absl::OkStatus();
}

absl::StatusOr<double> ShapedLink::bytes() const {
    GODWIT_ASSIGN_OR_RETURN(const std::string text, run(0, {"cat", "/proc/net/dev"}));
    return parse_device_bytes(text, kDevice);
}

absl::StatusOr<double> ShapedLink::retransmissions() const {
    double sum = 0;
    for (const int host : {0, 1}) {
        GODWIT_ASSIGN_OR_RETURN(const std::string text, run(host, {"cat", "/proc/net/snmp"}));
        GODWIT_ASSIGN_OR_RETURN(const double segments, parse_retransmissions(text));
        sum += segments;
    }
    return sum;
}

absl::StatusOr<double> parse_retransmissions(const std::string& text) {
    // A line of names, then one of numbers.
    std::istringstream lines(text);
    std::vector<std::string> names;
    for (std::string line; std::getline(lines, line);) {
        if (!line.starts_with("Tcp: ")) continue;
        std::istringstream in(line);
        const std::vector<std::string> words{std::istream_iterator<std::string>(in), {}};
        for (size_t i = 0; i < names.size() && i < words.size(); ++i) {
            double value = 0;
            const std::string& word = words[i];
            if (names[i] == "RetransSegs" &&
                std::from_chars(word.data(), word.data() + word.size(), value).ec == std::errc())
                return value;
        }
        names = words;
    }
    return absl::NotFoundError("there is no RetransSegs in /proc/net/snmp");
}

absl::StatusOr<double> parse_device_bytes(const std::string& text, const std::string& device) {
    constexpr int kBetween = 7;  // packets, errs, drop, fifo, frame, compressed, multicast
    std::istringstream lines(text);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream in(line);
        std::string word;
        double received = 0;
        if (!(in >> word) || word != device + ":" || !(in >> received)) continue;
        for (int i = 0; i < kBetween; ++i) in >> word;
        double sent = 0;
        if (in >> sent) return received + sent;
    }
    return absl::NotFoundError(fmt::format("there is no device {} in /proc/net/dev", device));
}

}  // namespace godwit
