// AgentPair: two agents (godwitd) on loopback, each with a state directory of its own, and the
// command line that talks to them.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "bench/lab/child.h"
#include "bench/lab/cpu_time.h"
#include "bench/lab/lab_host.h"
#include "engine/base/clock.h"
#include "engine/base/status.h"

namespace godwit {

struct CommandOutcome {
    int exit_code = -1;
    std::string out;
    std::string err;
};
// The end of what a command wrote, which has the verdict, in one line.
std::string end_of(std::string text);
// FailedPrecondition: what was tried, with which exit code it failed, and its last words.
absl::Status failed_command(const char* what, const CommandOutcome& outcome);

// At the end: their QEMUs are killed by pid, the agents ended, their mounts and files gone. Thread
// rule: one thread.
class AgentPair {
  public:
    struct Options {
        std::string bin_dir;    // of godwitd and godwit
        std::string directory;  // short: unix socket paths have 108 bytes
        std::string qemu;
        int cancel_fd = -1;
        std::array<LabHost, 2> hosts;
    };
    explicit AgentPair(Options options) : options_(std::move(options)) {}
    ~AgentPair();
    AgentPair(const AgentPair&) = delete;
    AgentPair& operator=(const AgentPair&) = delete;

    // Starts both unless they run. Errors: what an agent says when it does not start.
    absl::Status start();
    [[nodiscard]] const std::string& address(int which) const {
        return agents_[static_cast<size_t>(which)].address;
    }
    [[nodiscard]] const std::string& directory(int which) const {
        return agents_[static_cast<size_t>(which)].directory;
    }
    // Of a backing: thp, 4k, hugetlb-2M.
    [[nodiscard]] std::string ram_directory(int which, const std::string& backing) const {
        return directory(which) + "/ram-" + backing;
    }
    // The only file there whose name begins so; empty when there is none.
    [[nodiscard]] std::string ram_file(int which, const std::string& backing,
                                       const std::string& vm) const;

    // Ends an agent that was started and keeps its directory, until start() is called again. No VM
    // may run there.
    void stop(int which);

    // Of an agent that was started.
    [[nodiscard]] pid_t pid(int which) const {
        return agents_[static_cast<size_t>(which)].process->pid();
    }
    // Its stderr so far.
    [[nodiscard]] std::string log(int which) const {
        const Agent& agent = agents_[static_cast<size_t>(which)];
        return agent.process ? agent.process->err() : std::string();
    }

    // `godwit --agent <which> WORDS…`, begun. Errors: Child's.
    [[nodiscard]] absl::StatusOr<Child> begin(int which,
                                              const std::vector<std::string>& words) const {
        return Child::start(command_line(which, words));
    }
    // The same to its end. Errors: DeadlineExceeded, Cancelled: it is then killed.
    absl::StatusOr<CommandOutcome> run(int which, const std::vector<std::string>& words,
                                       Duration limit);
    // Of both agents and of all that they have started. Errors: those of reading /proc.
    [[nodiscard]] absl::StatusOr<CpuSeconds> cpu() const;
    // Waits until the agent has no child: the QEMU that it gave away and its guard have ended.
    // Error: DeadlineExceeded, Cancelled.
    [[nodiscard]] absl::Status wait_childless(int which, Duration limit) const;
    // The VM is gone from both agents, whatever it was doing.
    void forget_vm(const std::string& vm);

  private:
    struct Agent {
        std::string directory;
        std::string address;
        std::optional<Child> process;
    };
    absl::Status start(int which, const std::string& name);
    void end(Agent& agent);
    [[nodiscard]] std::vector<std::string> command_line(
        int which, const std::vector<std::string>& words) const;

    const Options options_;
    std::array<Agent, 2> agents_;
};

}  // namespace godwit
