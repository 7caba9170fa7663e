// A real agent (godwitd) with a state directory of its own, and the command line talking to it.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/status.h"
#include "tests/harness/command.h"

namespace godwit {
class AgentClient;
}

namespace godwit::testing {

struct AgentOptions {
    std::vector<std::string> flags;  // further flags of godwitd
    std::string host = "127.0.0.1";
    std::vector<std::string> wrapper;        // for example {"nsenter", "--net=/run/netns/NAME"}
    std::vector<std::string> lasting_flags;  // the same as flags, but restart_with() keeps them
    uint64_t disk_bytes = 0;  // its state directory is a file system of its own; 0: it is not
};

// At the end: its VMs are killed by pid, the agent is ended, its mounts and files are gone.
class TestAgent {
  public:
    explicit TestAgent(AgentOptions options = {});
    ~TestAgent();
    TestAgent(const TestAgent&) = delete;
    TestAgent& operator=(const TestAgent&) = delete;

    // HOST:PORT.
    [[nodiscard]] const std::string& address() const { return address_; }
    [[nodiscard]] const std::string& state_dir() const { return state_dir_; }
    [[nodiscard]] pid_t pid() const;

    // `godwit --agent <this> WORDS…`.
    CommandResult cli(const std::vector<std::string>& words,
                      Duration limit = std::chrono::seconds(120));
    BackgroundCommand cli_in_background(const std::vector<std::string>& words);
    // The same with --json, parsed; null when it printed none.
    nlohmann::json cli_json(const std::vector<std::string>& words);

    // The VM as `vm show` tells it; null when there is none.
    nlohmann::json vm(const std::string& name);
    std::vector<std::string> vm_names();
    pid_t qemu_pid(const std::string& name);
    std::string ram_file(const std::string& name);

    void signal(int number) const;
    // SIGTERM, waits; or SIGKILL.
    void end(int signal_number = 15);
    // Starts it again on the same port and state directory.
    void restart();
    // The same with other options: an agent that was set up differently.
    void restart(AgentOptions options);
    // The same with other flags only.
    void restart_with(std::vector<std::string> flags);
    // The agent's stderr so far.
    std::string log();

    // Pids of QEMUs that belong to this state directory, alive.
    std::vector<pid_t> qemu_pids() const;
    // RAM files in this state directory.
    std::vector<std::string> ram_files_on_disk() const;

  private:
    void start();
    [[nodiscard]] absl::StatusOr<std::unique_ptr<AgentClient>> client() const;

    AgentOptions options_;
    std::string state_dir_;
    bool has_disk_ = false;
    std::string address_;
    std::string old_logs_;
    std::optional<BackgroundCommand> process_;
};

}  // namespace godwit::testing
