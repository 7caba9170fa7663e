#include "tests/harness/libvirt_pair.h"

#include <gmock/gmock.h>

#include <algorithm>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

constexpr Duration kPrepareLimit = std::chrono::seconds(30);
constexpr Duration kTidyLimit = std::chrono::seconds(30);

}  // namespace

void LibvirtPair::SetUp() {
    if (!host_a.problem().empty()) GTEST_SKIP() << host_a.problem();
    ASSERT_EQ(host_b.problem(), "");
    a.emplace(host_a.agent());
    b.emplace(host_b.agent());
}

BackgroundCommand LibvirtPair::begin_migration(const std::vector<std::string>& flags) {
    std::vector<std::string> words = {"migrate", kVm,         "--to",    b->address(),
                                      "--json",  "--tracker", "uffd-wp", "--downtime-limit",
                                      "500ms"};
    words.insert(words.end(), flags.begin(), flags.end());
    if (std::find(flags.begin(), flags.end(), "--strategy") == flags.end())
        words.insert(words.end(), {"--strategy", "precopy"});
    return a->cli_in_background(words);
}

BackgroundCommand LibvirtPair::begin_slow_migration(std::vector<std::string> flags) {
    flags.insert(flags.end(), {"--bandwidth", "2MB/s"});
    BackgroundCommand command = begin_migration(flags);
    EXPECT_TRUE(eventually(kPrepareLimit, [&] {
        return b->vm(kVm).is_object() || command.wait(Duration::zero());
    })) << "the destination does not start";
    return command;
}

void LibvirtPair::expect_only_at(LibvirtHost& here, TestAgent& agent, const LibvirtHost& there,
                                 const std::string& state_there) {
    EXPECT_EQ(here.virsh_text({"domstate", kVm}), "running");
    EXPECT_TRUE(eventually(kTidyLimit, [&] {
        const CommandResult state = there.virsh({"domstate", kVm});
        return state_there.empty() ? state.exit_code != 0 : state.out.rfind(state_there, 0) == 0;
    })) << there.virsh({"list", "--all"}).out;
    EXPECT_TRUE(eventually(kTidyLimit, [&] { return there.memory_files().empty(); }));
    EXPECT_TRUE(there.qemu_pids().empty());
    const nlohmann::json found = agent.vm(kVm);
    ASSERT_TRUE(found.is_object());
    EXPECT_EQ(found["migration_id"], "");
    expect_alive_and_well(agent, kVm, 100);
}

void LibvirtPair::expect_capability_off(const LibvirtHost& host) {
    EXPECT_TRUE(eventually(kTidyLimit, [&] {
        return host.virsh(
                       {"qemu-monitor-command", kVm, R"({"execute":"query-migrate-capabilities"})"})
                   .out.find(R"({"state":false,"capability":"x-ignore-shared"})") !=
               std::string::npos;
    })) << "x-ignore-shared stays on";
}

void LibvirtPair::expect_at_a_and_moves() {
    expect_only_at(host_a, *a, host_b, "");
    const CommandResult moved = migrate(*a, b->address(), kVm, {"--strategy", "stop-and-copy"});
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_only_at(host_b, *b, host_a, "shut off");
}

}  // namespace godwit::testing
