#include "bench/lab/agent_pair.h"

#include <fmt/format.h>
#include <signal.h>
#include <sys/mount.h>

#include <algorithm>
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

std::string end_of(std::string text) {
    constexpr size_t kEnough = 400;
    while (!text.empty() && text.back() == '\n') text.pop_back();
    if (text.size() > kEnough) text.erase(0, text.size() - kEnough);
    std::replace(text.begin(), text.end(), '\n', ' ');
    return text;
}

absl::Status failed_command(const char* what, const CommandOutcome& outcome) {
    return absl::FailedPreconditionError(
        fmt::format("{}: exit code {}: {}", what, outcome.exit_code, end_of(outcome.err)));
}

AgentPair::~AgentPair() {
    for (Agent& agent : agents_) end(agent);
}

absl::Status AgentPair::start() {
    GODWIT_RETURN_IF_ERROR(start(0, "a"));
    return start(1, "b");
}

absl::Status AgentPair::start(int which, const std::string& name) {
    Agent& agent = agents_[static_cast<size_t>(which)];
    if (agent.process) return absl::OkStatus();
    agent.directory = options_.directory + "/" + name;
    std::error_code error;
    fs::create_directories(agent.directory, error);
    fs::remove(agent.directory + "/address", error);  // of one that was stopped
    const LabHost& host = options_.hosts[static_cast<size_t>(which)];
    std::vector<std::string> argv = host.wrapper;
    argv.insert(argv.end(),
                {options_.bin_dir + "/godwitd", "--listen", host.address + ":0", "--state-dir",
                 agent.directory, "--qemu", options_.qemu, "--log-level", "warn", "--overcommit"});
    // A cable of our own is no place where anybody listens.
    if (!host.wrapper.empty()) argv.emplace_back("--insecure");
    GODWIT_ASSIGN_OR_RETURN(Child child, Child::start(argv));
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
    if (agent.directory.empty()) return;
    kill_vms(agent.directory);
    if (agent.process) agent.process->end(SIGTERM, kEndLimit);
    kill_vms(agent.directory);  // one that it had just begun
    for (const char* mount : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        ::umount2((agent.directory + "/" + mount).c_str(), MNT_DETACH);
    std::error_code error;
    fs::remove_all(agent.directory, error);
}

void AgentPair::stop(int which) {
    Agent& agent = agents_[static_cast<size_t>(which)];
    if (!agent.process) return;
    agent.process->end(SIGTERM, kEndLimit);
    agent.process.reset();
}

std::string AgentPair::ram_file(int which, const std::string& backing,
                                const std::string& vm) const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(ram_directory(which, backing), error))
        if (entry.path().filename().string().starts_with(vm + "-")) return entry.path().string();
    return {};
}

std::vector<std::string> AgentPair::command_line(int which,
                                                 const std::vector<std::string>& words) const {
    std::vector<std::string> argv = options_.hosts[static_cast<size_t>(which)].wrapper;
    argv.insert(argv.end(), {options_.bin_dir + "/godwit", "--agent", address(which)});
    argv.insert(argv.end(), words.begin(), words.end());
    return argv;
}

absl::StatusOr<CpuSeconds> AgentPair::cpu() const {
    CpuSeconds sum;
    for (const Agent& agent : agents_) {
        if (!agent.process) continue;
        GODWIT_ASSIGN_OR_RETURN(const CpuSeconds cpu, cpu_of_family(agent.process->pid()));
        sum += cpu;
    }
    return sum;
}

absl::Status AgentPair::wait_childless(int which, Duration limit) const {
    const MonotonicTime deadline = Clock::system().now() + limit;
    const auto& process = agents_[static_cast<size_t>(which)].process;
    while (process && !children_of(process->pid()).empty()) {
        // Only the agent hears of its children's ends.
        const absl::Status waited =
            wait_readable(-1, options_.cancel_fd, Clock::system().now() + kLookAgain);
        if (absl::IsCancelled(waited)) return waited;
        if (Clock::system().now() > deadline)
            return absl::DeadlineExceededError("the source's processes do not end");
    }
    return absl::OkStatus();
}

absl::StatusOr<CommandOutcome> AgentPair::run(int which, const std::vector<std::string>& words,
                                              Duration limit) {
    GODWIT_ASSIGN_OR_RETURN(Child child, begin(which, words));
    const auto status = child.wait(Clock::system().now() + limit, options_.cancel_fd);
    if (!status.ok()) return annotate(status.status(), fmt::format("godwit {}", words.front()));
    return CommandOutcome{*status, child.out(), child.err()};
}

void AgentPair::forget_vm(const std::string& vm) {
    for (const int which : {0, 1}) {
        if (!agents_[static_cast<size_t>(which)].process) continue;
        auto child = begin(which, {"vm", "stop", vm, "--force"});
        if (child.ok()) (void)child->wait(Clock::system().now() + kForgetLimit, -1);
    }
}

}  // namespace godwit
