#include "tests/harness/agent.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "engine/guest/qemu/process.h"
#include "engine/guest/qemu/vm_record.h"
#include "engine/report/json.h"
#include "tools/godwit/agent_client.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kStartLimit = std::chrono::seconds(20);
constexpr Duration kEndLimit = std::chrono::seconds(40);

std::string read_file(const std::string& path) {
    const std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

}  // namespace

TestAgent::TestAgent(AgentOptions options) : options_(std::move(options)) {
    std::string pattern = "/tmp/gw-XXXXXX";  // short: unix socket paths have 108 bytes
    state_dir_ = ::mkdtemp(pattern.data());
    address_ = options_.host + ":0";
    if (options_.disk_bytes > 0) {
        has_disk_ = ::mount("godwit-test", state_dir_.c_str(), "tmpfs", 0,
                            fmt::format("size={},mode=0700", options_.disk_bytes).c_str()) == 0;
        EXPECT_TRUE(has_disk_) << strerrordesc_np(errno);
    }
    start();
}

void TestAgent::start() {
    const std::string address_file = state_dir_ + "/address";
    std::error_code ignored;
    fs::remove(address_file, ignored);
    std::vector<std::string> argv = options_.wrapper;
    for (const std::string& word :
         {program("godwitd"), std::string("--listen"), address_, std::string("--state-dir"),
          state_dir_, std::string("--log-level"), std::string("debug")})
        argv.push_back(word);
    for (const auto& flags : {options_.lasting_flags, options_.flags})
        argv.insert(argv.end(), flags.begin(), flags.end());
    process_.emplace(argv);
    const bool listening = eventually(kStartLimit, [&] {
        return !read_file(address_file).empty() || process_->wait(Duration::zero());
    });
    if (!listening || process_->wait(Duration::zero())) {
        ADD_FAILURE() << "the agent did not start: " << log();
        return;
    }
    address_ = read_file(address_file);
    while (!address_.empty() && address_.back() == '\n') address_.pop_back();
}

TestAgent::~TestAgent() {
    for (const pid_t pid : qemu_pids()) ::kill(pid, SIGKILL);
    end();
    if (::testing::Test::HasFailure()) {
        std::printf("---- log of the agent at %s ----\n%s", address_.c_str(), log().c_str());
        for (const auto& entry : fs::recursive_directory_iterator(state_dir_)) {
            const std::string name = entry.path().filename().string();
            if (name == "guard.log" || name == "qemu.log")
                std::printf("---- %s ----\n%s", entry.path().c_str(),
                            read_file(entry.path().string()).c_str());
        }
    }
    for (const char* mount : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        ::umount2((state_dir_ + "/" + mount).c_str(), MNT_DETACH);
    if (has_disk_) ::umount2(state_dir_.c_str(), MNT_DETACH);
    std::error_code ignored;
    fs::remove_all(state_dir_, ignored);
}

pid_t TestAgent::pid() const { return process_->pid(); }

CommandResult TestAgent::cli(const std::vector<std::string>& words, Duration limit) {
    BackgroundCommand command = cli_in_background(words);
    if (!command.wait(limit)) {
        ADD_FAILURE() << "godwit " << fmt::format("{}", words.front())
                      << " did not end in time: " << command.result().err;
        command.signal(SIGKILL);
        command.wait(kEndLimit);
    }
    return command.result();
}

BackgroundCommand TestAgent::cli_in_background(const std::vector<std::string>& words) {
    std::vector<std::string> argv = options_.wrapper;
    for (const std::string& word : {program("godwit"), std::string("--agent"), address_})
        argv.push_back(word);
    argv.insert(argv.end(), words.begin(), words.end());
    return BackgroundCommand(argv);
}

nlohmann::json TestAgent::cli_json(const std::vector<std::string>& words) {
    std::vector<std::string> with_json = words;
    with_json.emplace_back("--json");
    const CommandResult result = cli(with_json);
    return nlohmann::json::parse(result.out, nullptr, false);
}

// Asked again and again while a test waits: not by a program each time, which would take longer to
// load than all else that most tests do. What namespaces part from the test needs the program.
absl::StatusOr<std::unique_ptr<AgentClient>> TestAgent::client() const {
    if (!options_.wrapper.empty()) return absl::UnavailableError("in namespaces of its own");
    return AgentClient::connect(address_);
}

nlohmann::json TestAgent::vm(const std::string& name) {
    if (const auto agent = client(); agent.ok()) {
        const auto info = (*agent)->get_vm(name);
        return info.ok() ? nlohmann::json(to_json(*info)) : nlohmann::json();
    }
    nlohmann::json found = cli_json({"vm", "show", name});
    return found.is_object() && found.contains("spec") ? found : nlohmann::json();
}

std::vector<std::string> TestAgent::vm_names() {
    std::vector<std::string> names;
    if (const auto agent = client(); agent.ok()) {
        const auto vms = (*agent)->list_vms();
        if (vms.ok())
            for (const v1::VmInfo& vm : vms->vms()) names.push_back(vm.spec().name());
        return names;
    }
    const nlohmann::json answer = cli_json({"vm", "list"});
    if (answer.is_object() && answer.contains("vms"))
        for (const auto& entry : answer["vms"]) names.push_back(entry["spec"]["name"]);
    return names;
}

pid_t TestAgent::qemu_pid(const std::string& name) {
    const nlohmann::json found = vm(name);
    return found.is_object() ? found["pid"].get<pid_t>() : -1;
}

std::string TestAgent::ram_file(const std::string& name) {
    const nlohmann::json found = vm(name);
    if (!found.is_object() || found["ram_files"].empty()) return {};
    const std::string path = found["ram_files"][0].get<std::string>();
    // An agent with mounts of its own: as it sees them.
    for (const std::string& word : options_.wrapper)
        if (word.rfind("--mount", 0) == 0) return fmt::format("/proc/{}/root{}", pid(), path);
    return path;
}

void TestAgent::signal(int number) const {
    if (process_) process_->signal(number);
}

void TestAgent::end(int signal_number) {
    if (!process_) return;
    process_->signal(signal_number);
    process_->signal(SIGCONT);
    if (!process_->wait(kEndLimit)) {
        ADD_FAILURE() << "the agent did not end: " << log();
        process_->signal(SIGKILL);
        process_->wait(kEndLimit);
    }
    old_logs_ += process_->result().err;
    process_.reset();
}

void TestAgent::restart() {
    if (process_) end();
    start();
}

void TestAgent::restart(AgentOptions options) {
    if (process_) end();
    options_ = std::move(options);
    start();
}

void TestAgent::restart_with(std::vector<std::string> flags) {
    AgentOptions options = options_;
    options.flags = std::move(flags);
    restart(std::move(options));
}

std::string TestAgent::log() {
    return old_logs_ + (process_ ? process_->result().err : std::string());
}

std::vector<pid_t> TestAgent::qemu_pids() const {
    std::vector<pid_t> pids;
    std::error_code ignored;
    for (const auto& entry : fs::directory_iterator(state_dir_ + "/vms", ignored)) {
        const auto record = read_record(entry.path().string() + "/vm.json");
        if (record.ok() && open_process(record->process).ok()) pids.push_back(record->process.pid);
    }
    return pids;
}

std::vector<std::string> TestAgent::ram_files_on_disk() const {
    std::vector<std::string> files;
    std::error_code ignored;
    for (const char* mount : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        for (const auto& entry : fs::directory_iterator(state_dir_ + "/" + mount, ignored))
            if (entry.is_regular_file(ignored)) files.push_back(entry.path().string());
    return files;
}

}  // namespace godwit::testing
