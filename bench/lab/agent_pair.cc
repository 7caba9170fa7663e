#include "bench/lab/agent_pair.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mount.h>

#include <filesystem>
#include <fstream>
#include <iterator>

#include "engine/base/wait.h"
#include "engine/guest/qemu/process.h"
#include "engine/guest/qemu/vm_record.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;

constexpr Duration kStartLimit = std::chrono::seconds(20);
constexpr Duration kEndLimit = std::chrono::seconds(20);
constexpr Duration kForgetLimit = std::chrono::seconds(20);
constexpr Duration kLookAgain = std::chrono::milliseconds(5);

std::string first_line(const std::string& path) {
    std::ifstream in(path);
    std::string line;
    std::getline(in, line);
    return in.eof() ? std::string() : line;  // without its newline it is not whole yet
}

void kill_vms(const std::string& directory) {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(directory + "/vms", error)) {
        const auto record = read_record(entry.path().string() + "/vm.json");
        if (!record.ok()) continue;
        const auto process = open_process(record->process);
        if (!process.ok()) continue;
        (void)send_signal(process->get(), SIGKILL);
        (void)wait_readable(process->get(), -1, Clock::system().now() + kEndLimit);
    }
}

}  // namespace

AgentPair::~AgentPair() {
    for (Agent& agent : agents_) end(agent);
}

absl::Status AgentPair::start() {
    GODWIT_RETURN_IF_ERROR(start(agents_[0], "a"));
    return start(agents_[1], "b");
}

absl::Status AgentPair::start(Agent& agent, const std::string& name) {
    if (agent.process) return absl::OkStatus();
    agent.directory = options_.directory + "/" + name;
    std::error_code error;
    fs::create_directory(agent.directory, error);
    GODWIT_ASSIGN_OR_RETURN(
        Child child,
        Child::start({options_.bin_dir + "/godwitd", "--listen", "127.0.0.1:0", "--state-dir",
                      agent.directory, "--qemu", options_.qemu, "--log-level", "warn"}));
    agent.process.emplace(std::move(child));
    const MonotonicTime deadline = Clock::system().now() + kStartLimit;
    while ((agent.address = first_line(agent.directory + "/address")).empty()) {
        const auto ended =
            agent.process->wait(Clock::system().now() + kLookAgain, options_.cancel_fd);
        if (absl::IsCancelled(ended.status())) return ended.status();
        if (ended.ok() || Clock::system().now() > deadline)
            return absl::AbortedError(
                fmt::format("an agent did not start: {}", agent.process->err()));
    }
    return absl::OkStatus();
}

void AgentPair::end(Agent& agent) {
    if (!agent.process) return;
    kill_vms(agent.directory);
    agent.process->end(SIGTERM, kEndLimit);
    kill_vms(agent.directory);  // one that it had just begun
    for (const char* mount : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        ::umount2((agent.directory + "/" + mount).c_str(), MNT_DETACH);
    std::error_code error;
    fs::remove_all(agent.directory, error);
}

std::string AgentPair::ram_file(int which, const std::string& vm) const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(ram_directory(which), error))
        if (entry.path().filename().string().starts_with(vm + "-")) return entry.path().string();
    return {};
}

absl::StatusOr<CommandOutcome> AgentPair::run(int which, const std::vector<std::string>& words,
                                              Duration limit) {
    std::vector<std::string> argv{options_.bin_dir + "/godwit", "--agent", address(which)};
    argv.insert(argv.end(), words.begin(), words.end());
    GODWIT_ASSIGN_OR_RETURN(Child child, Child::start(argv));
    const auto status = child.wait(Clock::system().now() + limit, options_.cancel_fd);
    if (!status.ok()) return annotate(status.status(), fmt::format("godwit {}", words.front()));
    return CommandOutcome{*status, child.out(), child.err()};
}

void AgentPair::forget_vm(const std::string& vm) {
    for (Agent& agent : agents_) {
        if (!agent.process) continue;
        auto child = Child::start(
            {options_.bin_dir + "/godwit", "--agent", agent.address, "vm", "stop", vm, "--force"});
        if (child.ok()) (void)child->wait(Clock::system().now() + kForgetLimit, -1);
    }
}

}  // namespace godwit
