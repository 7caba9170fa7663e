// Migrations that are held when they are ready, and groups that switch over together.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kHeldVm = "vm";

class Held : public ::testing::TestWithParam<const char*> {
  protected:
    BackgroundCommand migrate_held(const std::string& hold) {
        return a.cli_in_background({"migrate", kHeldVm, "--to", b.address(), "--strategy",
                                    GetParam(), "--downtime-limit", "500ms", "--hold", hold,
                                    "--verify", "--json"});
    }
    // Whether the migration has said that it is ready.
    bool becomes_ready() {
        return eventually(std::chrono::seconds(60), [&] {
            return a.cli_json({"report", kHeldVm})["reason"].get<std::string>().starts_with(
                "ready to switch over, and held: godwit proceed ");
        });
    }
    static void finish(BackgroundCommand& command) {
        ASSERT_TRUE(command.wait(std::chrono::seconds(60)));
    }

    TestAgent a;
    TestAgent b;
};

TEST_P(Held, WaitsAtTheSourceUntilItIsToldToProceed) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kHeldVm)));
    BackgroundCommand moving = migrate_held("5m");
    ASSERT_TRUE(becomes_ready());
    expect_alive_and_well(a, kHeldVm, 100);
    EXPECT_EQ(a.cli_json({"report", kHeldVm})["outcome"], "running");
    EXPECT_EQ(a.cli({"proceed", kHeldVm}).exit_code, 0);
    ASSERT_NO_FATAL_FAILURE(finish(moving));
    EXPECT_EQ(moving.result().exit_code, 0) << moving.result().err;
    const json report = json_of(moving.result());
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    EXPECT_GT(report["held_ms"].get<double>(), 0);
    expect_alive_and_well(b, kHeldVm, 100);
    expect_nothing_left(a, kHeldVm);
    EXPECT_THAT(a.cli({"proceed", kHeldVm}).err, HasSubstr("has no live rounds any more"));
}

INSTANTIATE_TEST_SUITE_P(Strategies, Held,
                         ::testing::Values("precopy", "hybrid", "postcopy", "stop-and-copy"),
                         [](const auto& test) {
                             std::string name = test.param;
                             std::erase(name, '-');
                             return name;
                         });

class HeldPrecopy : public Held {};

TEST_P(HeldPrecopy, StaysAtTheSourceWhenNobodyTellsItToProceed) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kHeldVm)));
    BackgroundCommand moving = migrate_held("700ms");
    ASSERT_NO_FATAL_FAILURE(finish(moving));
    expect_at_source(a, moving.result(),
                     {.exit_code = 1, .outcome = "failed", .words = {"nobody let it proceed"}},
                     kHeldVm);
    expect_nothing_left(b, kHeldVm);
}

// In half a second this guest writes more than the pause has room for.
TEST_P(HeldPrecopy, IsHeldForMoreRoundsThanItMayTakeToConverge) {
    ASSERT_NO_FATAL_FAILURE(start_guest(
        a, {.name = kHeldVm, .accel = accel_here(), .append = "ws=16M rate=5000 sweep=5000"}));
    BackgroundCommand moving =
        a.cli_in_background({"migrate", kHeldVm, "--to", b.address(), "--strategy", "precopy",
                             "--bandwidth", "64MiB/s", "--compress", "off", "--downtime-limit",
                             "60ms", "--max-rounds", "8", "--hold", "8s", "--json"});
    ASSERT_NO_FATAL_FAILURE(finish(moving));
    expect_at_source(a, moving.result(),
                     {.exit_code = 1, .outcome = "failed", .words = {"nobody let it proceed"}},
                     kHeldVm);
    EXPECT_LE(json_of(moving.result())["rounds"].size(), 9U) << "of idle rounds only the last";
}

TEST_P(HeldPrecopy, IsCancelledByCtrlC) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kHeldVm)));
    BackgroundCommand moving = migrate_held("5m");
    ASSERT_TRUE(becomes_ready());
    moving.signal(SIGINT);
    ASSERT_NO_FATAL_FAILURE(finish(moving));
    expect_at_source(a, moving.result(), {.exit_code = 5, .outcome = "cancelled", .words = {}},
                     kHeldVm);
    expect_nothing_left(b, kHeldVm);
}

TEST_P(HeldPrecopy, LosesItsDestinationAndGoesOnHere) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kHeldVm)));
    BackgroundCommand moving = migrate_held("5m");
    ASSERT_TRUE(becomes_ready());
    b.end(SIGKILL);
    ASSERT_NO_FATAL_FAILURE(finish(moving));
    EXPECT_EQ(moving.result().exit_code, 1) << moving.result().err;
    expect_alive_and_well(a, kHeldVm, 100);
}

TEST_P(HeldPrecopy, IsWhatProceedIsFor) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kHeldVm)));
    BackgroundCommand moving = a.cli_in_background(
        {"migrate", kHeldVm, "--to", b.address(), "--bandwidth", "2MiB/s", "--json"});
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return b.qemu_pids().size() == 1; }));
    const CommandResult proceed = a.cli({"proceed", kHeldVm});
    EXPECT_NE(proceed.exit_code, 0);
    EXPECT_THAT(proceed.err, HasSubstr("it was not begun with --hold"));
    EXPECT_EQ(a.cli({"cancel", kHeldVm}).exit_code, 0);
    ASSERT_NO_FATAL_FAILURE(finish(moving));
}

TEST_P(HeldPrecopy, HasNoDeadlineAndNoGroupWithoutGang) {
    for (const auto& [flags, says] : std::vector<std::pair<std::vector<std::string>, std::string>>{
             {{"vm", "--hold", "1m", "--finish-by", "30s"}, "keeps no deadline"},
             {{"vm", "--hold", "2h"}, "hold_ms is 7200000"},
             {{"vm", "--hold", "1m", "--fallback", "native"}, "can't be held"},
             {{"vm", "--hold", "soon"}, "--hold"},
             {{"vm", "--gang"}, "--vms web,db, or --all"},
             {{"--vms", "v0,v1", "--hold", "1m"}, "with --gang"},
             {{"--vms", "v0,v1", "--gang", "--schedule", "serial"}, "moves all at once"},
             {{"--vms", "v0,v1", "--gang", "--parallel", "1"}, "moves all at once"}}) {
        std::vector<std::string> words = {"migrate", "--to", b.address()};
        words.insert(words.end(), flags.begin(), flags.end());
        const CommandResult result = a.cli(words);
        EXPECT_NE(result.exit_code, 0);
        EXPECT_THAT(result.err, HasSubstr(says));
    }
}

INSTANTIATE_TEST_SUITE_P(Strategies, HeldPrecopy, ::testing::Values("precopy"));

class Gang : public ::testing::Test {
  protected:
    void start(TestAgent& agent, const std::vector<std::string>& names) {
        for (const std::string& name : names)
            ASSERT_NO_FATAL_FAILURE(start_guest(agent, small_guest(name)));
    }
    CommandResult migrate_gang() {
        return a.cli({"migrate", "--vms", "v0,v1,v2", "--to", b.address(), "--downtime-limit",
                      "500ms", "--gang", "--verify", "--json"});
    }
    const std::vector<std::string> names_ = {"v0", "v1", "v2"};
    TestAgent a;
    TestAgent b;
};

TEST_F(Gang, SwitchesOverTogether) {
    ASSERT_NO_FATAL_FAILURE(start(a, names_));
    const CommandResult result = migrate_gang();
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json group = json_of(result);
    EXPECT_EQ(group["done"], 3);
    EXPECT_EQ(group["schedule"], "gang");
    double longest = 0;
    for (const json& guest : group["guests"]) {
        // Each was held, so none switched over before the last was ready.
        EXPECT_GT(guest["report"]["held_ms"].get<double>(), 0);
        longest = std::max(longest, guest["downtime_ms"].get<double>());
    }
    EXPECT_GE(group["outage_ms"].get<double>(), longest);
    for (const std::string& name : names_) {
        expect_alive_and_well(b, name, 100);
        expect_nothing_left(a, name);
    }
}

TEST_F(Gang, StaysWhereItIsWhenOneCanNotCome) {
    ASSERT_NO_FATAL_FAILURE(start(a, names_));
    ASSERT_NO_FATAL_FAILURE(start(b, {"v1"}));  // the name is taken
    const CommandResult result = migrate_gang();
    EXPECT_EQ(result.exit_code, 1) << result.err;
    const json group = json_of(result);
    EXPECT_EQ(group["done"], 0);
    for (const json& guest : group["guests"]) {
        EXPECT_EQ(guest["guest_at"], "source") << guest;
        EXPECT_EQ(guest["retry_safe"], true) << guest;
        if (guest["vm"] != "v1") {
            EXPECT_EQ(guest["reason"], "v1 can't come, and they belong together");
        }
    }
    for (const std::string& name : names_) expect_alive_and_well(a, name, 100);
    expect_alive_and_well(b, "v1", 100);
    for (const char* name : {"v0", "v2"}) expect_nothing_left(b, name);
}

}  // namespace
}  // namespace godwit::testing
