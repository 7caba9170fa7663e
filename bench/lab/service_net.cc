#include "bench/lab/service_net.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <cerrno>
#include <thread>
#include <vector>

#include "engine/guest/qemu/process.h"
#include "engine/guest/qemu/tap.h"

namespace godwit {
namespace {

constexpr const char* kClientAddress = "10.78.0.1/24";
constexpr const char* kTap = "labtap";
constexpr Duration kIpLimit = std::chrono::seconds(20);

std::string path_of(int name_space) {
    return fmt::format("/proc/{}/fd/{}", ::getpid(), name_space);
}

absl::Status run_ip(int name_space, const std::vector<std::string>& words) {
    GODWIT_ASSIGN_OR_RETURN(std::string nsenter, find_program("nsenter"));
    std::vector<std::string> argv{std::move(nsenter), "--net=" + path_of(name_space), "ip"};
    argv.insert(argv.end(), words.begin(), words.end());
    const absl::Status status = run_and_capture(argv, kIpLimit).status();
    return status.ok() ? status : annotate(status, "Cannot make the client's network");
}

absl::Status ip_all(int name_space, const std::vector<std::vector<std::string>>& commands) {
    for (const std::vector<std::string>& words : commands)
        GODWIT_RETURN_IF_ERROR(run_ip(name_space, words));
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServiceNet>> ServiceNet::create(const ShapedLink& link) {
    GODWIT_ASSIGN_OR_RETURN(UniqueFd client, make_network_namespace());
    GODWIT_RETURN_IF_ERROR(ip_all(client.get(), {{"link", "add", kBridge, "type", "bridge"},
                                                 {"address", "add", kClientAddress, "dev", kBridge},
                                                 {"link", "set", kBridge, "up"}}));
    int number = 0;
    for (const LabHost& host : link.hosts()) {
        const std::string port = fmt::format("host{}", number++);
        GODWIT_RETURN_IF_ERROR(
            ip_all(client.get(), {{"link", "add", port, "type", "veth", "peer", "name", "clients",
                                   "netns", path_of(host.name_space)},
                                  {"link", "set", port, "master", kBridge, "up"}}));
        GODWIT_RETURN_IF_ERROR(
            ip_all(host.name_space, {{"link", "add", kBridge, "type", "bridge"},
                                     {"link", "set", kBridge, "up"},
                                     {"link", "set", "clients", "master", kBridge, "up"}}));
    }
    return std::unique_ptr<ServiceNet>(new ServiceNet(std::move(client)));
}

absl::StatusOr<UniqueFd> tap_at(const LabHost& host, const std::string& bridge) {
    absl::StatusOr<UniqueFd> tap = absl::InternalError("no thread");
    // In another namespace; the thread that goes there is gone at once.
    std::thread([&] {
        if (host.name_space < 0 || ::setns(host.name_space, CLONE_NEWNET) == 0)
            tap = create_tap(kTap, bridge);
        else
            tap = errno_status(errno, "setns");
    }).join();
    return tap;
}

}  // namespace godwit
