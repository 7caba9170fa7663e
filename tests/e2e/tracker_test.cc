// Which dirty tracker a VM gets and why, the dirty rate, the display's log beside ours, memory that
// is plugged in.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "dirty-tracking/resident/resident_client.h"
#include "engine/guest/qemu/qmp_client.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";
constexpr Duration kQmpLimit = std::chrono::seconds(20);

std::string in_vm_directory(const TestAgent& agent, const std::string& file) {
    return fmt::format("{}/vms/{}/{}", agent.state_dir(), kVm, file);
}

// The monitor that is kept for the guard, which nobody uses before a freeze.
std::unique_ptr<QmpClient> monitor(const TestAgent& agent) {
    auto client =
        QmpClient::connect(in_vm_directory(agent, "guard.sock"), Clock::system().now() + kQmpLimit,
                           [](const QmpEvent&, MonotonicTime) {});
    EXPECT_TRUE(client.ok()) << client.status();
    return client.ok() ? *std::move(client) : nullptr;
}

class KvmGuest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = missing("kvm"); !reason.empty()) GTEST_SKIP() << reason;
    }
    static GuestOptions guest(const std::string& extra = "") {
        return {.append = "ws=16M rate=5000 pattern=random", .extra = extra};
    }
    json move_with(const std::string& tracker) {
        std::vector<std::string> flags = kPatient;
        flags.insert(flags.end(), {"--tracker", tracker});
        const CommandResult result = a.cli([&] {
            std::vector<std::string> words{"migrate",   kVm,        "--to",
                                           b.address(), "--verify", "--json"};
            words.insert(words.end(), flags.begin(), flags.end());
            return words;
        }());
        EXPECT_EQ(result.exit_code, 0) << result.err;
        return json_of(result);
    }

    TestAgent a, b;
};

TEST_F(KvmGuest, IsTrackedByKvmsLogUnlessSomethingStandsInTheWay) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest()));
    const json report = move_with("auto");
    EXPECT_EQ(report["tracker"], "kvm-dirty-log");
    EXPECT_EQ(report["tracker_reason"], "");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    expect_alive_and_well(b, kVm);
}

TEST_F(KvmGuest, WithoutTheResidentIsTrackedByUserfaultfdAndTheReportSaysWhy) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest("resident: false\n")));
    expect_at_source(a, migrate(a, b.address(), kVm, {"--tracker", "kvm-dirty-log"}),
                     {.words = {"can't be tracked with kvm-dirty-log", "resident: false"}});
    const json report = move_with("auto");
    EXPECT_EQ(report["tracker"], "uffd-wp");
    EXPECT_THAT(report["tracker_reason"].get<std::string>(), HasSubstr("resident: false"));
}

// An agent that has no library, or a QEMU that was started with the preload stripped.
TEST_F(KvmGuest, WhosePreloadWasStrippedIsTrackedByUserfaultfdAndTheReportSaysWhy) {
    a.restart({.flags = {"--resident", "none"}});
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest()));
    expect_at_source(a, migrate(a, b.address(), kVm, {"--tracker", "kvm-dirty-log"}),
                     {.words = {"can't be tracked with kvm-dirty-log", "resident"}});
    const json report = move_with("auto");
    EXPECT_EQ(report["tracker"], "uffd-wp");
    EXPECT_THAT(report["tracker_reason"].get<std::string>(), HasSubstr("resident"));
    // There the library is loaded again.
    ASSERT_NO_FATAL_FAILURE(expect_alive_and_well(b, kVm));
    EXPECT_EQ(move_guest(b, a, kVm)["tracker"], "kvm-dirty-log");
}

// A socket where the resident's was, served by the test, which answers in its own way.
UniqueFd take_the_place_of(const std::string& socket_path) {
    std::filesystem::remove(socket_path);
    sockaddr_un address{.sun_family = AF_UNIX, .sun_path = {}};
    socket_path.copy(address.sun_path, sizeof address.sun_path - 1);
    UniqueFd socket(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(socket.get(), 4), 0);
    return socket;
}

void greet_as_version(int listener, uint16_t version) {
    const UniqueFd agent(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    resident::Reply greeting;
    greeting.header = {.version = version, .length = sizeof greeting};
    EXPECT_EQ(::send(agent.get(), &greeting, sizeof greeting, MSG_NOSIGNAL),
              static_cast<ssize_t>(sizeof greeting));
}

TEST_F(KvmGuest, WhoseResidentIsGoneOrOfAnotherVersionIsTrackedByUserfaultfdAndItIsSaidWhy) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest()));
    const std::string path = in_vm_directory(a, "resident.sock");
    const auto rate_by_auto = [&] {
        return a.cli_json({"vm", "dirty-rate", kVm, "--windows", "10ms"});
    };
    {
        const UniqueFd played = take_the_place_of(path);
        std::jthread resident([&] {
            // For kvm-dirty-log, and for the discards.
            for (int i = 0; i < 2; ++i) greet_as_version(played.get(), 9);
        });
        const json rate = rate_by_auto();
        EXPECT_EQ(rate["tracker"], "uffd-wp");
        EXPECT_THAT(rate["tracker_reason"].get<std::string>(), HasSubstr("version 9"));
    }
    std::filesystem::remove(path);
    const json rate = rate_by_auto();
    EXPECT_EQ(rate["tracker"], "uffd-wp");
    EXPECT_THAT(rate["tracker_reason"].get<std::string>(), HasSubstr("has gone"));
    expect_at_source(a, migrate(a, b.address(), kVm, {"--tracker", "kvm-dirty-log"}),
                     {.words = {"can't be tracked with kvm-dirty-log", "has gone"}});
    EXPECT_EQ(move_with("auto")["tracker"], "uffd-wp");
    expect_alive_and_well(b, kVm);
}

// The resident refuses only when it is asked to begin: somebody else's log is on.
TEST_F(KvmGuest, WhoseLogCannotBeSwitchedOnIsTrackedByUserfaultfdAndTheReportSaysWhy) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest()));
    auto resident = ResidentClient::connect(in_vm_directory(a, "resident.sock"), a.qemu_pid(kVm));
    ASSERT_TRUE(resident.ok()) << resident.status();
    std::vector<RamBlock> blocks;
    auto block = open_ram_block("ram", a.ram_file(kVm), Backing::kTmpfsHuge);
    ASSERT_TRUE(block.ok()) << block.status();
    blocks.push_back(*std::move(block));
    ASSERT_TRUE((*resident)->start_log(blocks).ok());
    expect_at_source(a, migrate(a, b.address(), kVm, {"--tracker", "kvm-dirty-log"}),
                     {.words = {"can't be tracked with kvm-dirty-log", "has the log"}});
    const json rate = a.cli_json({"vm", "dirty-rate", kVm, "--windows", "10ms"});
    EXPECT_EQ(rate["tracker"], "uffd-wp");
    EXPECT_THAT(rate["tracker_reason"].get<std::string>(), HasSubstr("has the log"));
    const json report = move_with("auto");
    EXPECT_EQ(report["tracker"], "uffd-wp");
    EXPECT_THAT(report["tracker_reason"].get<std::string>(), HasSubstr("has the log"));
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    expect_alive_and_well(b, kVm);
}

TEST(TcgGuest, HasNoLogOfKvm) {
    TestAgent a, b;
    GuestOptions guest = small_guest(kVm);
    guest.accel = "tcg";
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    expect_at_source(a, migrate(a, b.address(), kVm, {"--tracker", "kvm-dirty-log"}),
                     {.words = {"kvm-dirty-log", "TCG"}});
}

TEST_F(KvmGuest, CanBeMovedAgainAfterTheAgentWasKilledInTheMiddleOfARound) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest()));
    BackgroundCommand moving = a.cli_in_background(
        {"migrate", kVm, "--to", b.address(), "--bandwidth", "2MiB/s", "--json"});
    const auto log_is = [&](bool on) {
        const auto client =
            ResidentClient::connect(in_vm_directory(a, "resident.sock"), a.qemu_pid(kVm));
        if (!client.ok()) return false;
        const auto state = (*client)->state();
        return state.ok() && state->log_on == on;
    };
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return log_is(true); }));
    const pid_t qemu = a.qemu_pid(kVm);
    a.end(SIGKILL);
    auto resident = ResidentClient::connect(in_vm_directory(a, "resident.sock"), qemu);
    ASSERT_TRUE(resident.ok()) << resident.status();
    EXPECT_FALSE((*resident)->state()->log_on) << "the log outlives the agent";
    resident->reset();
    a.restart();
    expect_alive_and_well(a, kVm);
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return b.qemu_pids().empty(); }));
    EXPECT_EQ(move_with("auto")["tracker"], "kvm-dirty-log");
    expect_alive_and_well(b, kVm);
}

// QEMU goes on reading its own log of the video memory.
TEST_F(KvmGuest, WithADisplayMovesThereAndBack) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest("display: vnc\n")));
    const auto screen = [](TestAgent& agent) {
        const auto client = monitor(agent);
        const std::string file = in_vm_directory(agent, "screen.ppm");
        const auto done = client->execute("screendump", {{"filename", file}}, kQmpLimit);
        EXPECT_TRUE(done.ok()) << done.status();
        const CommandResult size = run_command({"stat", "-c", "%s", file});
        return std::stoul("0" + size.out);
    };
    EXPECT_GT(screen(a), 100'000U) << "720 x 400 pixels at least";
    EXPECT_EQ(move_guest(a, b, kVm)["tracker"], "kvm-dirty-log");
    if (HasFailure()) return;
    EXPECT_GT(screen(b), 100'000U);
    EXPECT_EQ(move_guest(b, a, kVm)["tracker"], "kvm-dirty-log");
    expect_alive_and_well(a, kVm);
}

TEST_F(KvmGuest, WithABalloonIsVerifiedStrictlyBecauseItsTrackerSeesDiscards) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest("balloon: true\n")));
    const json report = move_guest(a, b, kVm);
    EXPECT_EQ(report["tracker"], "kvm-dirty-log");
    EXPECT_TRUE(report["warnings"].empty()) << report["warnings"];
    expect_alive_and_well(b, kVm);
}

TEST_F(KvmGuest, IsHeldBackByTheThrottleAndStoppedAllTheSame) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=16M rate=0"}));
    auto resident = ResidentClient::connect(in_vm_directory(a, "resident.sock"), a.qemu_pid(kVm));
    ASSERT_TRUE(resident.ok()) << resident.status();
    ASSERT_TRUE((*resident)->set_throttle(95).ok());
    // The guest never leaves the vCPU by itself: each hold needs a kick.
    EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] {
        const auto state = (*resident)->state();
        return state.ok() && state->holds > 10 && state->kicks > 10;
    })) << "the vCPU is not held back";
    expect_alive_and_well(a, kVm);
    // A vCPU that is held lets go when QEMU wants it.
    ASSERT_TRUE((*resident)->set_throttle(99, std::chrono::seconds(30)).ok());
    const auto qmp = monitor(a);
    EXPECT_TRUE(qmp->execute("stop", {}, std::chrono::seconds(10)).ok());
    EXPECT_TRUE(qmp->execute("cont", {}, std::chrono::seconds(10)).ok());
    resident->reset();  // as when the agent dies
    // With 99 % of 30 s held, nothing would go on in time if the throttle outlived the connection.
    expect_alive_and_well(a, kVm);
}

TEST_F(KvmGuest, IntoWhichMemoryWasPluggedStaysAndSaysWhich) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest("hotplug: {slots: 2, max_memory: 1GiB}\n")));
    BackgroundCommand moving =
        a.cli_in_background({"migrate", kVm, "--to", b.address(), "--bandwidth", "4MiB/s",
                             "--downtime-limit", "5s", "--json"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return b.qemu_pids().size() == 1; }));
    const auto qmp = monitor(a);
    ASSERT_TRUE(
        qmp->execute("object-add",
                     {{"qom-type", "memory-backend-ram"}, {"id", "more"}, {"size", 128 << 20}},
                     kQmpLimit)
            .ok());
    const auto plugged = qmp->execute(
        "device_add", {{"driver", "pc-dimm"}, {"id", "dimm7"}, {"memdev", "more"}}, kQmpLimit);
    ASSERT_TRUE(plugged.ok()) << plugged.status();
    ASSERT_TRUE(moving.wait(std::chrono::seconds(60)));
    expect_at_source(a, moving.result(),
                     {.exit_code = 1, .outcome = "failed", .words = {"dimm7", "unplug"}});
    expect_nothing_left(b);
}

// --- the dirty rate ---------------------------------------------------------------------------

class DirtyRate : public ::testing::TestWithParam<const char*> {};

TEST_P(DirtyRate, IsACurveThatGrowsNoFasterThanTheGuestWrites) {
    const std::string accel = GetParam();
    if (const std::string reason = missing(accel); !reason.empty()) GTEST_SKIP() << reason;
    TestAgent a;
    ASSERT_NO_FATAL_FAILURE(
        start_guest(a, {.accel = accel, .append = "ws=64M rate=1000 pattern=seq sweep=0"}));
    const uint64_t before = testimony(a, kVm).writes;
    const json rate = a.cli_json({"vm", "dirty-rate", kVm, "--windows", "1s,100ms,400ms,100ms"});
    const uint64_t written = testimony(a, kVm).writes - before;
    EXPECT_EQ(rate["tracker"], accel == "kvm" ? "kvm-dirty-log" : "uffd-wp");
    ASSERT_EQ(rate["points"].size(), 3U) << "ascending, each once: " << rate;
    uint64_t last = 0;
    for (const json& point : rate["points"]) {
        EXPECT_GE(point["dirty_pages"].get<uint64_t>(), last);
        last = point["dirty_pages"].get<uint64_t>();
        EXPECT_EQ(point["dirty_bytes"].get<uint64_t>(), last * 4096);
    }
    // The working set's pages, their counters, the mailbox, the stack.
    EXPECT_GT(last, 100U);
    EXPECT_LE(last, written + 200);
    // Nothing stays armed or held.
    EXPECT_EQ(a.vm(kVm)["migration_id"], "");
    expect_alive_and_well(a, kVm, 100);
}

INSTANTIATE_TEST_SUITE_P(Accelerators, DirtyRate, ::testing::Values("kvm", "tcg"),
                         [](const auto& test) { return std::string(test.param); });

TEST(DirtyRateOf, WhatCannotBeMeasuredIsRefused) {
    TestAgent a;
    EXPECT_EQ(a.cli({"vm", "dirty-rate", "nobody"}).exit_code, 3);
    EXPECT_EQ(a.cli({"vm", "dirty-rate", "nobody", "--windows", "0ms"}).exit_code, 2);
    EXPECT_EQ(a.cli({"vm", "dirty-rate", "nobody", "--windows", "1s,soon"}).exit_code, 2);
    EXPECT_EQ(a.cli({"vm", "dirty-rate", "nobody", "--tracker", "tea-leaves"}).exit_code, 2);
}

TEST(DirtyRateOf, AVmInUseIsRefusedAndTheMigrationGoesOn) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    BackgroundCommand moving =
        a.cli_in_background({"migrate", kVm, "--to", b.address(), "--bandwidth", "8MiB/s",
                             "--max-rounds", "1", "--on-no-converge", "stop-and-copy"});
    ASSERT_TRUE(eventually(std::chrono::seconds(20), [&] { return b.qemu_pids().size() == 1; }));
    const CommandResult refused = a.cli({"vm", "dirty-rate", kVm});
    EXPECT_EQ(refused.exit_code, 3);
    EXPECT_THAT(refused.err, HasSubstr("in use by migration"));
    ASSERT_TRUE(moving.wait(std::chrono::seconds(60)));
    EXPECT_EQ(moving.result().exit_code, 0) << moving.result().err;
}

}  // namespace
}  // namespace godwit::testing
