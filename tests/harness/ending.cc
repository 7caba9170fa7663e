#include "tests/harness/ending.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kCleanUpLimit = std::chrono::seconds(30);

// The files of `vm` below the agent's state directory, in the agent's own mount namespace.
std::vector<std::string> files_of(const TestAgent& agent, const std::string& vm) {
    const std::string root = fmt::format("/proc/{}/root{}", agent.pid(), agent.state_dir());
    std::vector<std::string> files;
    std::error_code ignored;
    if (fs::exists(root + "/vms/" + vm, ignored)) files.push_back("vms/" + vm);
    for (const char* mount : {"ram-thp", "ram-4k", "ram-hugetlb-2M"})
        for (const auto& entry : fs::directory_iterator(root + "/" + mount, ignored))
            if (entry.path().filename().string().rfind(vm + "-", 0) == 0)
                files.push_back(entry.path().string());
    return files;
}

std::shared_ptr<grpc::Channel> channel_to(const TestAgent& agent) {
    return grpc::CreateChannel(agent.address(), grpc::InsecureChannelCredentials());
}

}  // namespace

CommandResult migrate(TestAgent& from, const std::string& to, const std::string& vm,
                      const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"migrate",          vm,     "--to", to, "--json", "--verify",
                                      "--downtime-limit", "500ms"};
    words.insert(words.end(), flags.begin(), flags.end());
    return from.cli(words);
}

nlohmann::json json_of(const CommandResult& result) {
    nlohmann::json parsed = nlohmann::json::parse(result.out, nullptr, false);
    return parsed.is_discarded() ? nlohmann::json() : parsed;
}

std::string last_line(const std::string& text) {
    const size_t end = text.find_last_not_of('\n');
    if (end == std::string::npos) return {};
    const size_t begin = text.rfind('\n', end);
    return text.substr(begin == std::string::npos ? 0 : begin + 1, end - begin);
}

void expect_at_source(TestAgent& from, const CommandResult& result, const Ending& ending,
                      const std::string& vm) {
    EXPECT_EQ(result.exit_code, ending.exit_code) << result.err;
    const nlohmann::json report = json_of(result);
    ASSERT_TRUE(report.is_object() && report.contains("outcome")) << result.out << result.err;
    EXPECT_EQ(report["outcome"], ending.outcome);
    EXPECT_EQ(report["guest_at"], "source");
    EXPECT_EQ(report["retry_safe"], true);
    const std::string line = last_line(result.err);
    EXPECT_THAT(line, ::testing::HasSubstr("the guest is at the source"));
    EXPECT_THAT(line, ::testing::HasSubstr("a retry is safe"));
    for (const std::string& word : ending.words) EXPECT_THAT(line, ::testing::HasSubstr(word));
    EXPECT_EQ(std::count_if(line.begin(), line.end(),
                            [](char c) { return static_cast<unsigned char>(c) < 0x20; }),
              0)
        << "a peer's control characters reach the terminal";

    const nlohmann::json found = from.vm(vm);
    ASSERT_TRUE(found.is_object() && found.contains("state")) << found.dump();
    EXPECT_EQ(found["state"], "running");
    EXPECT_EQ(found["migration_id"], "");
    expect_alive_and_well(from, vm, 100);
}

void expect_nothing_left(TestAgent& agent, const std::string& vm) {
    std::vector<std::string> names;
    std::vector<std::string> files;
    const bool clean = eventually(kCleanUpLimit, [&] {
        names = agent.vm_names();
        files = files_of(agent, vm);
        return files.empty() && std::find(names.begin(), names.end(), vm) == names.end() &&
               agent.qemu_pids().size() == names.size();
    });
    EXPECT_TRUE(clean) << "left at " << agent.address() << ": " << ::testing::PrintToString(names)
                       << ::testing::PrintToString(files);
}

std::unique_ptr<v1::Agent::Stub> agent_api(const TestAgent& agent) {
    return v1::Agent::NewStub(channel_to(agent));
}

std::unique_ptr<v1::Transfer::Stub> transfer_api(const TestAgent& agent) {
    return v1::Transfer::NewStub(channel_to(agent));
}

}  // namespace godwit::testing
