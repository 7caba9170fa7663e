#include "tests/harness/linked_hosts.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr const char* kDevice = "cable";
// An address of nobody's network card: what is sent there is dropped at the cable's other end.
constexpr const char* kNobodysCard = "02:00:00:00:00:99";
constexpr const char* kNobody = "10.77.0.99";

std::string address_of(int host) { return fmt::format("10.77.0.{}", host + 1); }

std::string namespace_of(pid_t pid) {
    std::error_code ignored;
    return fs::read_symlink(fmt::format("/proc/{}/ns/net", pid), ignored).string();
}

}  // namespace

LinkedHosts::LinkedHosts(Cable cable) {
    if (!make(cable) && problem_.empty()) problem_ = "network namespaces cannot be made here";
}

bool LinkedHosts::did(const std::vector<std::string>& words) {
    const CommandResult result = run_command(words);
    if (result.exit_code != 0) problem_ = result.err;
    return result.exit_code == 0;
}

bool LinkedHosts::lay(Cable cable) {
    if (cable == Cable::kTrue)
        return did({"ip", "link", "add", kDevice, "netns", std::to_string(holders_[0]->pid()),
                    "type", "veth", "peer", "name", kDevice, "netns",
                    std::to_string(holders_[1]->pid())});
    auto lying = LyingCable::lay({holders_[0]->pid(), holders_[1]->pid()}, kDevice);
    if (!lying.ok())
        problem_ = std::string(lying.status().message());
    else
        lying_cable_ = *std::move(lying);
    return lying.ok();
}

bool LinkedHosts::make(Cable cable) {
    const std::string ours = namespace_of(::getpid());
    for (auto& holder : holders_) {
        holder.emplace(std::vector<std::string>{"unshare", "--net", "sleep", "infinity"});
        const bool apart = eventually(std::chrono::seconds(10), [&] {
            return holder->wait(Duration::zero()) || namespace_of(holder->pid()) != ours;
        });
        if (!apart || holder->wait(Duration::zero())) {
            problem_ = holder->result().err;
            return false;
        }
    }
    if (!lay(cable)) return false;
    for (int host = 0; host < 2; ++host) {
        if (!did(inside(host, {"ip", "address", "add", address_of(host) + "/24", "dev", kDevice})))
            return false;
        for (const char* device : {"lo", kDevice})
            if (!did(inside(host, {"ip", "link", "set", device, "up"}))) return false;
    }
    return true;
}

std::vector<std::string> LinkedHosts::inside(int host,
                                             const std::vector<std::string>& words) const {
    std::vector<std::string> all = {"nsenter",
                                    fmt::format("--net=/proc/{}/ns/net", holders_[host]->pid())};
    all.insert(all.end(), words.begin(), words.end());
    return all;
}

AgentOptions LinkedHosts::on(int host) const {
    if (!problem_.empty()) return {};
    return {.host = address_of(host), .wrapper = inside(host, {}), .lasting_flags = {"--insecure"}};
}

void LinkedHosts::set_link(int host, bool up) {
    const CommandResult result =
        run_command(inside(host, {"ip", "link", "set", kDevice, up ? "up" : "down"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
}

void LinkedHosts::set_mute(int host, bool mute) {
    std::vector<std::string> words = {"ip", "neigh"};
    if (mute)
        words.insert(words.end(), {"replace", address_of(1 - host), "lladdr", kNobodysCard, "dev",
                                   kDevice, "nud", "permanent"});
    else
        words.insert(words.end(), {"del", address_of(1 - host), "dev", kDevice});
    const CommandResult result = run_command(inside(host, words));
    EXPECT_EQ(result.exit_code, 0) << result.err;
}

void LinkedHosts::set_crowded(bool crowded) {
    for (int host = 0; host < 2; ++host) {
        crowds_[host].reset();
        std::vector<std::vector<std::string>> commands;
        // The queue is longer than what one socket may have in it: so its sender waits.
        if (crowded)
            commands = {{"tc", "qdisc", "replace", "dev", kDevice, "root", "tbf", "rate", "40mbit",
                         "burst", "64kb", "limit", "4mb"},
                        {"ip", "neigh", "replace", kNobody, "lladdr", kNobodysCard, "dev", kDevice,
                         "nud", "permanent"}};
        else
            commands = {{"tc", "qdisc", "del", "dev", kDevice, "root"}};
        for (const auto& words : commands) {
            const CommandResult result = run_command(inside(host, words));
            EXPECT_EQ(result.exit_code, 0) << result.err;
        }
        if (crowded)
            crowds_[host].emplace(inside(
                host, {"bash", "-c",
                       fmt::format("exec dd if=/dev/zero bs=1400 > /dev/udp/{}/9", kNobody)}));
    }
}

}  // namespace godwit::testing
