// What data streams are made of and how they are held: whatever it is, every page arrives.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <thread>
#include <tuple>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";

TEST(PlainSockets, CarryAGuestThereAndBack) {
    TestAgent a({.flags = {"--no-io-uring"}});
    TestAgent b({.flags = {"--no-io-uring"}});
    for (TestAgent* agent : {&a, &b})
        EXPECT_THAT(agent->log(), HasSubstr("plain sockets, which cost more CPU: --no-io-uring"));
    ASSERT_NO_FATAL_FAILURE(start_guest(
        a, {.accel = accel_here(), .append = "ws=64M rate=20000 pattern=random fill=text"}));
    move_guest(a, b, kVm);
    if (HasFailure()) return;
    expect_alive_and_well(b, kVm);
    EXPECT_THAT(a.log(), HasSubstr("zero-copy sends: off: plain sockets"));
    // With pages that are missing when it resumes: faults and the push go the same way.
    move_guest(b, a, kVm, {"--strategy", "postcopy"});
    expect_alive_and_well(a, kVm);
}

TEST(PlainSockets, AndIoUringUnderstandEachOther) {
    TestAgent a;
    TestAgent b({.flags = {"--no-io-uring"}});
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    move_guest(a, b, kVm);
    if (HasFailure()) return;
    move_guest(b, a, kVm);
    expect_alive_and_well(a, kVm);
}

// --- how many streams -----------------------------------------------------------------------

// The number that is found is the host's own matter; that it was looked for, and that a guest that
// writes meanwhile is whole after it changed, is not.
TEST(StreamsAuto, AreTriedOutInTheFirstRoundOfALargeGuest) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(
        a, {.memory = "2GiB", .accel = accel_here(), .append = "ws=1600M rate=5000 fill=random"}));
    const json report = move_guest(a, b, kVm, {"--verify"});
    if (HasFailure()) return;
    EXPECT_EQ(report["streams_opened"], 8);
    EXPECT_GE(report["streams"], 2);
    EXPECT_LE(report["streams"], 8);
    ASSERT_GE(report["stream_slices"].size(), 2u) << report["stream_slices"];
    EXPECT_EQ(report["stream_slices"][0]["streams"], 2);
    EXPECT_EQ(report["stream_slices"][1]["streams"], 2) << "the first slice only warms up";
    uint64_t tried = 0;
    for (const json& slice : report["stream_slices"]) tried += slice["pages"].get<uint64_t>();
    EXPECT_LE(tried, report["rounds"][0]["dirty_pages"].get<uint64_t>());
    expect_alive_and_well(b, kVm);
}

TEST(StreamsAuto, AreTwoForASmallGuest) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    const json report = move_guest(a, b, kVm);
    if (HasFailure()) return;
    EXPECT_EQ(report["streams_opened"], 2);
    EXPECT_EQ(report["streams"], 2);
    EXPECT_TRUE(report["stream_slices"].empty()) << report["stream_slices"];
}

// --- godwit limit ---------------------------------------------------------------------------

class Limit : public ::testing::Test {
  protected:
    // 32 MiB of noise take half a minute.
    static constexpr const char* kSlow = "1MiB/s";

    BackgroundCommand begin(const std::string& strategy) {
        start_guest(a, {.accel = accel_here(), .append = "ws=32M rate=200 sweep=200"});
        return a.cli_in_background({"migrate", kVm, "--to", b.address(), "--id", "m", "--strategy",
                                    strategy, "--bandwidth", kSlow, "--verify", "--json"});
    }
    void await_event(const std::string& words) {
        ASSERT_TRUE(eventually(std::chrono::seconds(60), [&] {
            return a.cli_json({"report", "m"}).dump().find(words) != std::string::npos;
        })) << words;
    }
    // It would take half a minute without a new limit.
    void expect_done(BackgroundCommand& command) {
        ASSERT_TRUE(command.wait(std::chrono::seconds(100))) << command.result().err;
        const json report = json_of(command.result());
        ASSERT_TRUE(report.is_object()) << command.result().err;
        EXPECT_EQ(report["outcome"], "done");
        EXPECT_EQ(report["bandwidth_bytes_per_s"], 0);
        EXPECT_EQ(report["verify"]["mismatches"], 0);
        const json last = json_of(a.cli({"limit", "m", "--bandwidth", "1Gbit", "--json"}));
        EXPECT_THAT(last["error"].get<std::string>(), HasSubstr("has ended already"));
        expect_alive_and_well(b, kVm, 500);
        expect_nothing_left(a, kVm);
    }

    TestAgent a, b;
};

TEST_F(Limit, IsLiftedInTheMiddleOfALiveRound) {
    BackgroundCommand command = begin("precopy");
    if (HasFatalFailure()) return;
    // By the VM's name, and while it is prepared or in its first round.
    await_event("running");
    EXPECT_EQ(a.cli({"limit", kVm, "--bandwidth", "2MiB/s"}).exit_code, 0);
    EXPECT_EQ(a.cli({"limit", "m", "--bandwidth", "unlimited"}).exit_code, 0);
    expect_done(command);
    EXPECT_THAT(a.log(), HasSubstr("migration m: the bandwidth is limited to 2.00 MiB/s"));
    EXPECT_THAT(a.log(), HasSubstr("migration m: the bandwidth is not limited"));
}

TEST_F(Limit, IsLiftedInADrain) {
    BackgroundCommand command = begin("postcopy");
    if (HasFatalFailure()) return;
    await_event("\"guest_at\":\"destination\"");
    EXPECT_EQ(a.cli({"limit", "m", "--bandwidth", "unlimited"}).exit_code, 0);
    expect_done(command);
}

TEST_F(Limit, OfNothingOrOfNobodyIsRefused) {
    for (const char* wrong : {"0", "fast", "10 apples", "-1Gbit"}) {
        const CommandResult result = a.cli({"limit", "m", "--bandwidth", wrong});
        EXPECT_EQ(result.exit_code, 2) << wrong;
        EXPECT_THAT(result.err, HasSubstr("--bandwidth")) << wrong;
    }
    EXPECT_EQ(a.cli({"limit", "m"}).exit_code, 2) << "nothing to change";
    const json unknown = json_of(a.cli({"limit", "m", "--bandwidth", "1Gbit", "--json"}));
    EXPECT_EQ(unknown["reason"], "NOT_FOUND");
    EXPECT_THAT(unknown["error"].get<std::string>(), HasSubstr("no migration of that id"));
}

// --- where streams come from, and how they share a link --------------------------------------

// Peers of connections to ports of this process, as `ss` has them.
std::set<std::string> peers_of(const TestAgent& agent) {
    const CommandResult result = run_command({"ss", "-Htnp", "state", "established"});
    std::set<std::string> peers;
    std::istringstream lines(result.out);
    for (std::string line; std::getline(lines, line);) {
        std::istringstream words(line);
        std::string received, sent, here, there, process;
        words >> received >> sent >> here >> there >> process;
        if (process.find(fmt::format("pid={},", agent.pid())) != std::string::npos)
            peers.insert(there.substr(0, there.rfind(':')));
    }
    return peers;
}

TEST(Bind, SpreadsTheStreamsOverTheAddresses) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    std::vector<std::string> words = {"migrate",
                                      kVm,
                                      "--to",
                                      b.address(),
                                      "--bandwidth",
                                      "1MiB/s",
                                      "--bind",
                                      "127.0.0.2,127.0.0.3",
                                      "--streams",
                                      "3",
                                      "--congestion-control",
                                      "reno",
                                      "--json"};
    BackgroundCommand command = a.cli_in_background(words);
    EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
        const std::set<std::string> peers = peers_of(b);
        return peers.count("127.0.0.2") > 0 && peers.count("127.0.0.3") > 0;
    })) << ::testing::PrintToString(peers_of(b));
    EXPECT_EQ(a.cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    ASSERT_TRUE(command.wait(std::chrono::seconds(100)));
    EXPECT_EQ(json_of(command.result())["outcome"], "done") << command.result().err;
    expect_alive_and_well(b, kVm, 100);
}

TEST(Bind, AndCongestionControlThatThisHostHasNotAreRefusedBeforeAnythingIsTouched) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    const std::vector<std::tuple<std::string, std::string, std::string>> cases = {
        {"--bind", "127.0.0.2,192.0.2.1", "192.0.2.1 is not an address of this host"},
        {"--bind", "eth0", "\"eth0\" is no numeric address"},
        {"--congestion-control", "teleport", "no congestion control \"teleport\"; there are: "}};
    for (const auto& [flag, value, reason] : cases) {
        const CommandResult result = a.cli({"migrate", kVm, "--to", b.address(), flag, value});
        EXPECT_EQ(result.exit_code, 2) << result.err;
        EXPECT_THAT(result.err, HasSubstr(reason));
    }
    expect_alive_and_well(a, kVm, 100);
    expect_nothing_left(b);
}

// --- what they leave of the CPUs ------------------------------------------------------------

// Of each thread of a process whose name begins so: its niceness and the CPUs that it may use.
std::set<std::pair<int, std::string>> placement_of(pid_t pid, const std::string& name) {
    std::set<std::pair<int, std::string>> found;
    std::error_code ignored;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), ignored)) {
        std::ifstream status(task.path() / "status");
        std::string cpus, own_name;
        for (std::string line; std::getline(status, line);) {
            std::istringstream words(line);
            std::string key;
            words >> key;
            if (key == "Name:") words >> own_name;
            if (key == "Cpus_allowed_list:") words >> cpus;
        }
        const auto thread = static_cast<id_t>(std::stoi(task.path().filename().string()));
        if (own_name.rfind(name, 0) == 0) found.emplace(::getpriority(PRIO_PROCESS, thread), cpus);
    }
    return found;
}

TEST(Placement, IsOfTheThreadsThatMovePagesAndOfNoOthers) {
    const AgentOptions placed{.flags = {"--cpus", "0", "--nice", "7"}};
    TestAgent a(placed), b(placed);
    const std::set<std::pair<int, std::string>> moved{{7, "0"}};
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    BackgroundCommand command = a.cli_in_background(
        {"migrate", kVm, "--to", b.address(), "--bandwidth", "1MiB/s", "--json"});
    EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] {
        return placement_of(a.pid(), "send-") == moved && placement_of(b.pid(), "recv-") == moved;
    }));
    for (const auto& [agent, thread] : {std::pair(&a, "urgent-reader"), {&b, "incoming"}}) {
        const auto others = placement_of(agent->pid(), thread);
        EXPECT_EQ(others.size(), 1U) << thread;
        for (const auto& [nice, cpus] : others) {
            EXPECT_EQ(nice, 0) << thread;
            EXPECT_TRUE(cpus != "0" || std::thread::hardware_concurrency() == 1) << thread;
        }
    }
    EXPECT_EQ(a.cli({"limit", kVm, "--bandwidth", "unlimited"}).exit_code, 0);
    ASSERT_TRUE(command.wait(std::chrono::seconds(100)));
    EXPECT_EQ(json_of(command.result())["outcome"], "done") << command.result().err;
    expect_alive_and_well(b, kVm, 100);
}

TEST(ZeroCopy, IsGivenUpWhereTheKernelCopies) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(
        start_guest(a, {.accel = accel_here(), .append = "ws=32M rate=1000 pattern=random"}));
    const json report = move_guest(a, b, kVm);
    EXPECT_EQ(report["zero_copy_streams"], 0) << "agents of one host";
    EXPECT_THAT(a.log(), HasSubstr("zero-copy sends: off: the kernel copied all the same"));
    expect_alive_and_well(b, kVm);
}

}  // namespace
}  // namespace godwit::testing
