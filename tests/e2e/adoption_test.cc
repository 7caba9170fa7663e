// Agents come and go; VMs and reports stay.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class RestartedAgent : public ::testing::TestWithParam<int> {};

TEST_P(RestartedAgent, AdoptsItsVmsAndMigratesThem) {
    TestAgent a, b;
    start_guest(a, small_guest());
    const pid_t qemu = a.qemu_pid("vm");
    a.end(GetParam());
    a.restart();
    EXPECT_EQ(a.qemu_pid("vm"), qemu);
    EXPECT_EQ(a.vm("vm")["state"], "running");
    expect_alive_and_well(a, "vm", 100);
    const CommandResult moved = migrate(a, b.address());
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    EXPECT_EQ(json_of(moved)["verify"]["mismatches"], 0);
    expect_alive_and_well(b, "vm", 100);
    expect_nothing_left(a);
    // The destination's agent adopts what came to it, and sends it back.
    b.end(GetParam());
    b.restart();
    EXPECT_EQ(migrate(b, a.address()).exit_code, 0);
    expect_alive_and_well(a, "vm", 100);
    expect_nothing_left(b);
}

INSTANTIATE_TEST_SUITE_P(Ended, RestartedAgent, ::testing::Values(SIGTERM, SIGKILL),
                         [](const auto& test) {
                             return std::string(test.param == SIGTERM ? "InOrder" : "ByForce");
                         });

TEST(RestartedAgent, StillHasItsReports) {
    TestAgent a, b;
    start_guest(a, small_guest());
    ASSERT_EQ(migrate(a, b.address(), "vm", {"--id", "first"}).exit_code, 0);
    const nlohmann::json before = a.cli_json({"report", "first"});
    ASSERT_EQ(before["outcome"], "done");
    a.end(SIGKILL);
    a.restart();
    EXPECT_EQ(a.cli_json({"report", "first"}), before);
    EXPECT_EQ(a.cli_json({"report", "vm"}), before);
    const CommandResult watched = a.cli({"watch", "first", "--json"});
    EXPECT_EQ(watched.exit_code, 0);
    EXPECT_EQ(json_of(watched), before);
    const nlohmann::json list = a.cli_json({"list"});
    ASSERT_EQ(list["migrations"].size(), 1U);
    EXPECT_EQ(list["migrations"][0], before);
    // The id stays taken: the same id again is the same migration.
    start_guest(a, small_guest());
    const CommandResult again = migrate(a, b.address(), "vm", {"--id", "first"});
    EXPECT_EQ(json_of(again), before);
    EXPECT_THAT(a.vm_names(), ElementsAre("vm"));
}

TEST(RestartedAgent, ForgetsAVmWhoseQemuEndedMeanwhile) {
    TestAgent a;
    start_guest(a, small_guest());
    const std::vector<pid_t> qemus = a.qemu_pids();
    ASSERT_EQ(qemus.size(), 1U);
    a.end(SIGKILL);
    ASSERT_EQ(::kill(qemus[0], SIGKILL), 0);
    ASSERT_TRUE(eventually(std::chrono::seconds(10), [&] { return a.qemu_pids().empty(); }));
    a.restart();
    expect_nothing_left(a);
    start_guest(a, small_guest());  // the name is free
}

TEST(TwoAgents, HaveVmsOfTheSameNameAtDifferentTimes) {
    TestAgent a, b;
    start_guest(a, small_guest());
    ASSERT_EQ(migrate(a, b.address()).exit_code, 0);
    start_guest(a, small_guest());  // another of that name, where the first one was
    expect_at_source(a, migrate(a, b.address()), {.words = {"already has a VM named vm"}});
    expect_alive_and_well(b, "vm", 100);
    ASSERT_EQ(b.cli({"vm", "stop", "vm", "--force"}).exit_code, 0);
    const CommandResult moved = migrate(a, b.address());
    EXPECT_EQ(moved.exit_code, 0) << moved.err;
    expect_alive_and_well(b, "vm", 100);
    expect_nothing_left(a);
    EXPECT_EQ(a.cli_json({"list"})["migrations"].size(), 3U);
}

TEST(TwoAgents, CannotShareAStateDirectoryOrAPort) {
    TestAgent a;
    const CommandResult same_state =
        run_command({program("godwitd"), "--listen", "127.0.0.1:0", "--state-dir", a.state_dir()});
    EXPECT_EQ(same_state.exit_code, 3);
    EXPECT_THAT(same_state.err, HasSubstr(a.state_dir()));
    std::string other = "/tmp/gw-XXXXXX";
    ASSERT_NE(::mkdtemp(other.data()), nullptr);
    const CommandResult same_port =
        run_command({program("godwitd"), "--listen", a.address(), "--state-dir", other});
    EXPECT_EQ(same_port.exit_code, 3);
    EXPECT_THAT(same_port.err, HasSubstr(a.address()));
    EXPECT_EQ(run_command({"rm", "-r", other}).exit_code, 0);
}

}  // namespace
}  // namespace godwit::testing
