// --on-no-converge throttle: the vCPUs of a guest that outruns its link are held back until its
// rounds converge, and go on as before however the migration ends.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <csignal>

#include "dirty-tracking/resident/resident_client.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

constexpr const char* kVm = "vm";
const GuestOptions kFlatOut{.append = "ws=64M rate=0 pattern=random"};

class ThrottledGuest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = missing("kvm"); !reason.empty()) GTEST_SKIP() << reason;
    }
    static absl::StatusOr<ResidentState> resident_state(const TestAgent& agent, pid_t qemu) {
        GODWIT_ASSIGN_OR_RETURN(
            const auto resident,
            ResidentClient::connect(fmt::format("{}/vms/{}/resident.sock", agent.state_dir(), kVm),
                                    qemu));
        return resident->state();
    }
    // How much of the time the guest's vCPUs are held back; -1 when it can't be known.
    static int held_percent(const TestAgent& agent, pid_t qemu) {
        const auto state = resident_state(agent, qemu);
        return state.ok() ? static_cast<int>(state->held_percent) : -1;
    }
    // The guest gets on by thousands of pages, and no vCPU is held once meanwhile.
    static void expect_at_its_own_pace(TestAgent& agent) {
        const pid_t qemu = agent.qemu_pid(kVm);
        const auto before = resident_state(agent, qemu);
        ASSERT_TRUE(before.ok()) << before.status();
        EXPECT_EQ(before->held_percent, 0U);
        expect_alive_and_well(agent, kVm, 5000);
        const auto after = resident_state(agent, qemu);
        ASSERT_TRUE(after.ok()) << after.status();
        EXPECT_EQ(after->holds, before->holds);
    }
    // A migration that is never over by itself, seen to hold the vCPUs back.
    std::optional<BackgroundCommand> begin() {
        BackgroundCommand moving = a.cli_in_background(
            {"migrate", kVm, "--to", b.address(), "--json", "--id", "m", "--strategy", "precopy",
             "--on-no-converge", "throttle", "--bandwidth", "20MB/s", "--downtime-limit", "1ms",
             "--max-rounds", "1000", "--max-data", "1000x"});
        const pid_t qemu = a.qemu_pid(kVm);
        EXPECT_TRUE(eventually(std::chrono::seconds(60), [&] { return held_percent(a, qemu) > 0; }))
            << "nothing is held back";
        return moving;
    }

    TestAgent a, b;
};

TEST_F(ThrottledGuest, FinishesByPrecopyAndIsHeldBackNoMore) {
    // It changes whole pages: rounds of deltas would shrink by themselves.
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=16M rate=0 pattern=random change=4064"}));
    const json report = move_guest(a, b, kVm,
                                   {"--strategy", "precopy", "--on-no-converge", "throttle",
                                    "--bandwidth", "20MB/s", "--downtime-limit", "100ms"});
    if (HasFailure()) return;
    EXPECT_GE(report["throttle_percent"].get<int>(), 20) << report;
    EXPECT_EQ(report["strategy"], "precopy");
    EXPECT_EQ(report["postcopy"]["used"], false);
    expect_at_its_own_pace(b);
}

TEST_F(ThrottledGuest, GoesOnAsBeforeWhenTheMigrationIsCancelled) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFlatOut));
    auto moving = begin();
    EXPECT_EQ(a.cli({"cancel", "m"}).exit_code, 0);
    ASSERT_TRUE(moving->wait(std::chrono::seconds(60)));
    expect_at_source(a, moving->result(),
                     {.exit_code = 5, .outcome = "cancelled", .words = {"cancelled"}});
    expect_at_its_own_pace(a);
    expect_nothing_left(b);
}

TEST_F(ThrottledGuest, GoesOnAsBeforeWhenItsAgentIsKilled) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFlatOut));
    const pid_t qemu = a.qemu_pid(kVm);
    auto moving = begin();
    a.end(SIGKILL);
    EXPECT_TRUE(eventually(std::chrono::seconds(20), [&] { return held_percent(a, qemu) == 0; }));
    a.restart();
    expect_at_its_own_pace(a);
    expect_nothing_left(b);
}

TEST_F(ThrottledGuest, GoesOnAsBeforeWhenItDoesNotConvergeAllTheSame) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFlatOut));
    const CommandResult result = a.cli({"migrate", kVm, "--to", b.address(), "--json", "--strategy",
                                        "precopy", "--on-no-converge", "throttle", "--bandwidth",
                                        "60MB/s", "--downtime-limit", "1ms", "--max-rounds", "6"});
    expect_at_source(a, result,
                     {.exit_code = 1,
                      .outcome = "failed",
                      .words = {"no convergence in 6 rounds", "held back", "postcopy"}});
    expect_at_its_own_pace(a);
    expect_nothing_left(b);
}

void expect_refused(const GuestOptions& guest, const std::string& why) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    expect_at_source(
        a, migrate(a, b.address(), kVm, {"--strategy", "precopy", "--on-no-converge", "throttle"}),
        {.words = {"can't be held back", why, "--on-no-converge postcopy or stop-and-copy"}});
    expect_nothing_left(b);
    // Only the throttle is out of reach.
    EXPECT_EQ(migrate(a, b.address(), kVm).exit_code, 0);
    expect_alive_and_well(b, kVm);
}

TEST_F(ThrottledGuest, WithoutTheResidentIsRefusedBeforeAnythingIsTouched) {
    expect_refused({.append = "ws=4M rate=100", .extra = "resident: false\n"}, "resident: false");
}

TEST(TcgGuest, CannotBeThrottledAndIsRefusedBeforeAnythingIsTouched) {
    GuestOptions guest = small_guest(kVm);
    guest.accel = "tcg";
    expect_refused(guest, "TCG");
}

}  // namespace
}  // namespace godwit::testing
