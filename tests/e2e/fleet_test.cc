// Several VMs by one command: all arrive, one fails, Ctrl-C, shares of a bandwidth.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <set>
#include <sstream>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

const std::vector<std::string> kNames = {"v0", "v1", "v2"};

class SomeVms : public ::testing::Test {
  protected:
    void start(TestAgent& agent, const std::vector<std::string>& names = kNames) {
        for (const std::string& name : names)
            ASSERT_NO_FATAL_FAILURE(start_guest(agent, small_guest(name)));
    }
    [[nodiscard]] std::vector<std::string> words(const std::vector<std::string>& flags) const {
        std::vector<std::string> all = {"migrate", "--to", b.address(), "--downtime-limit",
                                        "500ms"};
        all.insert(all.end(), flags.begin(), flags.end());
        return all;
    }
    static json guest_of(const json& group, const std::string& vm) {
        for (const json& guest : group["guests"])
            if (guest["vm"] == vm) return guest;
        ADD_FAILURE() << "nothing is said of " << vm << ": " << group;
        return json::object();
    }
    // How many migrations of a are under way.
    size_t under_way() {
        size_t count = 0;
        const json list = a.cli_json({"list"});
        for (const json& report : list["migrations"]) count += report["outcome"] == "running";
        return count;
    }

    TestAgent a;
    TestAgent b;
};

class Fleet : public SomeVms, public ::testing::WithParamInterface<const char*> {};

TEST_P(Fleet, AllArriveAndTheReportIsOfTheGroup) {
    ASSERT_NO_FATAL_FAILURE(start(a));
    const CommandResult result =
        a.cli(words({"--all", "--schedule", GetParam(), "--verify", "--json"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json group = json_of(result);
    ASSERT_TRUE(group.is_object()) << result.out;
    EXPECT_EQ(group["schedule"], GetParam());
    EXPECT_EQ(group["done"], 3);
    EXPECT_GT(group["total_ms"].get<double>(), 0);
    const std::string schedule = GetParam();
    const int at_a_time = group["at_a_time"];
    EXPECT_GE(at_a_time, schedule == "parallel" ? 3 : 1);
    EXPECT_LE(at_a_time, schedule == "serial" ? 1 : 3);
    EXPECT_EQ(group["expected_ms"].is_number(), schedule == "auto");
    const std::set<std::string> order = group["order"];
    EXPECT_EQ(order, std::set<std::string>(kNames.begin(), kNames.end()));
    for (const std::string& name : kNames) {
        const json guest = guest_of(group, name);
        EXPECT_EQ(guest["outcome"], "done");
        EXPECT_EQ(guest["guest_at"], "destination");
        EXPECT_GT(guest["downtime_ms"].get<double>(), 0);
        EXPECT_EQ(guest["report"]["verify"]["mismatches"], 0);
        expect_alive_and_well(b, name, 100);
        expect_nothing_left(a, name);
    }
}

INSTANTIATE_TEST_SUITE_P(Schedules, Fleet, ::testing::Values("serial", "parallel", "auto"),
                         [](const auto& test) { return std::string(test.param); });

TEST_F(SomeVms, SerialIsOneAfterTheOtherInTheOrderGiven) {
    ASSERT_NO_FATAL_FAILURE(start(a));
    const std::string v0 = a.vm("v0")["spec"]["uuid"];
    const CommandResult result =
        a.cli(words({"--vms", "v2," + v0 + ",v1", "--schedule", "serial"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    // Of whom each line tells, without repetitions.
    std::vector<std::string> told;
    std::istringstream lines(result.err);
    for (std::string line; std::getline(lines, line);) {
        const std::string vm = line.substr(0, line.find(':'));
        if (vm.size() == 2 && (told.empty() || told.back() != vm)) told.push_back(vm);
    }
    EXPECT_THAT(told, ElementsAre("v2", "v0", "v1")) << result.err;
    EXPECT_THAT(result.out, HasSubstr("3 of 3 done in "));
}

TEST_F(SomeVms, OneThatFailsDoesNotStopTheRest) {
    ASSERT_NO_FATAL_FAILURE(start(a));
    ASSERT_NO_FATAL_FAILURE(start(b, {"v0"}));
    const CommandResult result =
        a.cli(words({"--vms", "v0,v1,v2", "--schedule", "parallel", "--parallel", "2", "--json"}));
    EXPECT_EQ(result.exit_code, 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("godwit: v0: migration "));
    const json group = json_of(result);
    EXPECT_EQ(group["done"], 2);
    EXPECT_EQ(group["not_done"], 1);
    const json refused = guest_of(group, "v0");
    EXPECT_EQ(refused["outcome"], "refused");
    EXPECT_EQ(refused["guest_at"], "source");
    EXPECT_EQ(refused["retry_safe"], true);
    EXPECT_TRUE(refused["downtime_ms"].is_null());
    expect_alive_and_well(a, "v0", 100);
    expect_alive_and_well(b, "v0", 100);
    for (const char* name : {"v1", "v2"}) {
        EXPECT_EQ(guest_of(group, name)["outcome"], "done");
        expect_alive_and_well(b, name, 100);
        expect_nothing_left(a, name);
    }
}

TEST_F(SomeVms, AnInterruptCancelsAllAndSaysWhereEachGuestIs) {
    ASSERT_NO_FATAL_FAILURE(start(a));
    BackgroundCommand moving = a.cli_in_background(words(
        {"--all", "--schedule", "parallel", "--parallel", "2", "--bandwidth", "2MiB/s", "--json"}));
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return b.qemu_pids().size() == 2; }));
    EXPECT_EQ(under_way(), 2U);
    moving.signal(SIGINT);
    ASSERT_TRUE(moving.wait(std::chrono::seconds(60)));
    EXPECT_EQ(moving.result().exit_code, 5) << moving.result().err;
    const json group = json_of(moving.result());
    std::multiset<std::string> outcomes;
    for (const std::string& name : kNames) {
        const json guest = guest_of(group, name);
        outcomes.insert(guest["outcome"].get<std::string>());
        EXPECT_EQ(guest["guest_at"], "source");
        EXPECT_EQ(guest["retry_safe"], true);
        expect_alive_and_well(a, name, 100);
        expect_nothing_left(b, name);
    }
    EXPECT_THAT(outcomes, ElementsAre("cancelled", "cancelled", "not-begun"));
}

TEST_F(SomeVms, AnInterruptLeavesWhatHasCommittedAndSaysSo) {
    ASSERT_NO_FATAL_FAILURE(start(a, {"v0", "v1"}));
    BackgroundCommand moving =
        a.cli_in_background(words({"--vms", "v0,v1", "--schedule", "serial", "--strategy",
                                   "postcopy", "--bandwidth", "1MiB/s", "--json"}));
    ASSERT_TRUE(eventually(std::chrono::seconds(60), [&] {
        return a.cli_json({"report", "v0"}).value("guest_at", "") == "destination";
    }));
    moving.signal(SIGINT);
    ASSERT_TRUE(moving.wait(std::chrono::seconds(60)));
    EXPECT_EQ(moving.result().exit_code, 4) << moving.result().err;
    const json group = json_of(moving.result());
    const json left = guest_of(group, "v0");
    EXPECT_EQ(left["outcome"], "detached");
    EXPECT_EQ(left["guest_at"], "destination");
    const std::string id = left["migration_id"];
    EXPECT_THAT(left["reason"].get<std::string>(), HasSubstr("godwit watch " + id));
    EXPECT_EQ(guest_of(group, "v1")["outcome"], "not-begun");
    EXPECT_EQ(a.cli({"limit", id, "--bandwidth", "unlimited"}).exit_code, 0);
    EXPECT_EQ(a.cli({"watch", id}).exit_code, 0);
    expect_alive_and_well(b, "v0", 100);
    expect_alive_and_well(a, "v1", 100);
}

TEST_F(SomeVms, ShareABandwidthAndTheLastOneHasItAll) {
    ASSERT_NO_FATAL_FAILURE(start(a, {"v0"}));
    ASSERT_NO_FATAL_FAILURE(
        start_guest(a, {.name = "v1", .accel = accel_here(), .append = "ws=128M rate=100"}));
    const CommandResult result =
        a.cli(words({"--vms", "v0,v1", "--schedule", "parallel", "--bandwidth", "64MiB/s",
                     "--compress", "off", "--strategy", "precopy", "--json"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const json group = json_of(result);
    const auto limit = [&](const char* vm) {
        return guest_of(group, vm)["report"]["bandwidth_bytes_per_s"].get<uint64_t>();
    };
    EXPECT_EQ(limit("v0"), uint64_t{32} << 20);
    EXPECT_EQ(limit("v1"), uint64_t{64} << 20);
}

TEST_F(SomeVms, ThatDoNotAllFitIntoTheMemoryMountAreRefusedBeforeTheyMove) {
    for (const char* name : {"v0", "v1"})
        ASSERT_NO_FATAL_FAILURE(start_guest(
            a, {.name = name, .accel = accel_here(), .append = "ws=96M rate=100 sweep=0"}));
    ASSERT_NO_FATAL_FAILURE(start(b, {"v2"}));  // the mount is there as long as it is used
    const CommandResult sized =
        run_command({"mount", "-o", "remount,size=192M", b.state_dir() + "/ram-thp"});
    ASSERT_EQ(sized.exit_code, 0) << sized.err;
    const CommandResult result =
        a.cli(words({"--vms", "v0,v1", "--schedule", "parallel", "--bandwidth", "32MiB/s",
                     "--compress", "off", "--strategy", "precopy", "--json"}));
    EXPECT_EQ(result.exit_code, 1) << result.err;
    const json group = json_of(result);
    EXPECT_EQ(group["done"], 1) << result.err;
    for (const char* name : {"v0", "v1"}) {
        const json guest = guest_of(group, name);
        expect_alive_and_well(guest["outcome"] == "done" ? b : a, name, 100);
        if (guest["outcome"] == "done") continue;
        EXPECT_EQ(guest["outcome"], "refused");
        EXPECT_THAT(guest["reason"].get<std::string>(), HasSubstr("for others on their way"));
    }
}

TEST_F(SomeVms, AnAgentThatDiesEndsTheGroupAndSaysHowToFindOut) {
    ASSERT_NO_FATAL_FAILURE(start(a));
    BackgroundCommand moving = a.cli_in_background(words(
        {"--all", "--schedule", "parallel", "--parallel", "2", "--bandwidth", "2MiB/s", "--json"}));
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return b.qemu_pids().size() == 2; }));
    a.end(SIGKILL);
    ASSERT_TRUE(moving.wait(std::chrono::seconds(60)));
    EXPECT_EQ(moving.result().exit_code, 4) << moving.result().err;
    const json group = json_of(moving.result());
    std::multiset<std::string> outcomes;
    for (const json& guest : group["guests"]) {
        outcomes.insert(guest["outcome"].get<std::string>());
        const bool is_begun = guest["outcome"] != "not-begun";
        EXPECT_EQ(guest["guest_at"], is_begun ? json() : json("source"));
    }
    EXPECT_THAT(outcomes, ElementsAre("not-begun", "unknown", "unknown"));
    EXPECT_THAT(moving.result().err, HasSubstr("godwit report "));
    a.restart();
    for (const std::string& name : kNames) expect_alive_and_well(a, name, 100);
}

TEST_F(SomeVms, WhatIsNoGroupIsRefusedBeforeAnythingBegins) {
    const CommandResult empty = a.cli(words({"--all", "--json"}));
    EXPECT_EQ(empty.exit_code, 3);
    EXPECT_THAT(empty.err, HasSubstr("this agent has no VM"));
    EXPECT_EQ(json_of(empty)["reason"], "NOT_FOUND");
    ASSERT_NO_FATAL_FAILURE(start(a, {"v0"}));
    const CommandResult unknown = a.cli(words({"--vms", "v0,nobody,noone"}));
    EXPECT_EQ(unknown.exit_code, 3);
    EXPECT_THAT(unknown.err, HasSubstr("no VM nobody, noone"));
    EXPECT_EQ(a.cli_json({"list"})["migrations"].size(), 0U);
    EXPECT_EQ(a.cli(words({"--vms", "v0,v0"})).exit_code, 2);
    const std::string uuid = a.vm("v0")["spec"]["uuid"];
    const CommandResult twice = a.cli(words({"--vms", "v0," + uuid, "--json"}));
    EXPECT_EQ(twice.exit_code, 2);
    EXPECT_THAT(twice.err, HasSubstr("v0 and " + uuid + " are one VM"));
    EXPECT_EQ(a.cli_json({"list"})["migrations"].size(), 0U);
}

TEST_F(SomeVms, AllLeavesOutWhatIsInUseUnlessTheyBelongTogether) {
    ASSERT_NO_FATAL_FAILURE(start(a, {"v0", "v1"}));
    const std::string trace = a.state_dir() + "/v0.trace";
    BackgroundCommand recording =
        a.cli_in_background({"vm", "record-dirty", "v0", "--for", "10m", "-o", trace});
    ASSERT_TRUE(eventually(std::chrono::seconds(30),
                           [&] { return a.vm("v0").value("migration_id", "") != ""; }));
    const CommandResult gang = a.cli(words({"--all", "--gang"}));
    EXPECT_EQ(gang.exit_code, 3) << gang.err;
    EXPECT_THAT(gang.err, HasSubstr("v0 is in use by"));
    EXPECT_EQ(a.cli_json({"list"})["migrations"].size(), 0U);
    const CommandResult result = a.cli(words({"--all", "--json"}));
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("left out: v0 is in use"));
    const json group = json_of(result);
    EXPECT_EQ(group["guests"].size(), 1U);
    ASSERT_EQ(group["left_out"].size(), 1U);
    EXPECT_EQ(group["left_out"][0]["vm"], "v0");
    expect_alive_and_well(b, "v1", 100);
    expect_alive_and_well(a, "v0", 100);
    recording.signal(SIGINT);
    EXPECT_TRUE(recording.wait(std::chrono::seconds(30)));
}

}  // namespace
}  // namespace godwit::testing
