// The source's agent is killed, stopped, or told to end.
#include <fmt/format.h>
#include <signal.h>

#include <cstdio>
#include <filesystem>

#include "engine/base/units.h"
#include "tests/fault/lab.h"

namespace godwit::testing {
namespace {

// DESIGN: the guest runs again within a second; loaded machines get more.
constexpr Duration kRunsAgain = std::chrono::seconds(3);
// For a guest that must not: the guard would be done by then.
constexpr Duration kWouldRun = std::chrono::milliseconds(700);

class SourceAgent : public Lab {
  protected:
    // Begins a migration and kills the source's agent when it is held. The guest has `limit` to run
    // again.
    void kill_when_held(Duration limit = kRunsAgain) {
        const GuestWatch guest(a.ram_file(kVm));
        BackgroundCommand command = begin_migration();
        await_held(a);
        if (commit_is_sent) await_commit_heard();
        const bool stood = guest.stands_still();
        const auto again = guest.until_it_runs(limit, [&] { a.signal(SIGKILL); });
        a.end(SIGKILL);
        runs_again = again.has_value();
        if (stood && again) {
            std::printf("the guest runs again %.1f ms after the agent's death\n", to_ms(*again));
            RecordProperty("runs_again_ms", fmt::format("{:.1f}", to_ms(*again)));
        }
        ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
        EXPECT_EQ(command.result().exit_code, 4) << command.result().err;
    }
    bool commit_is_sent = false;  // where it is held
    bool runs_again = false;
};

class SourceAgentKilledBeforeCommit : public SourceAgent,
                                      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceAgentKilledBeforeCommit, LeavesARunningGuestWithoutARestart) {
    a.restart(hold_at(GetParam()));
    kill_when_held();
    EXPECT_TRUE(runs_again) << "the guest does not run again";
    bring_back(a);
    expect_report({.exit_code = 1, .outcome = "failed", .words = {"the agent ended"}}, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, SourceAgentKilledBeforeCommit,
                         ::testing::Values(step::kPrepared, step::kRoundSent, step::kGuardStarted,
                                           step::kGuardArmed, step::kFrozen, step::kLastPagesSent,
                                           step::kDeviceStateLeaves, step::kLoaded,
                                           step::kVerified),
                         step_name);

TEST_F(SourceAgent, KilledInTheMiddleOfARoundLeavesARunningGuest) {
    BackgroundCommand command = begin_slow_round();
    const GuestWatch guest(a.ram_file(kVm));
    EXPECT_TRUE(guest.until_it_runs(kRunsAgain, [&] { a.end(SIGKILL); }));
    ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
    EXPECT_EQ(command.result().exit_code, 4);
    bring_back(a);
    expect_report(kFailed, "source");
    expect_at_a_and_moves();
}

TEST_F(SourceAgent, KilledInTheMiddleOfARoundLeavesAPausedGuestToWhoPausedIt) {
    BackgroundCommand command = begin_slow_round();
    ask_qemu(a, "stop");
    a.end(SIGKILL);
    ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
    bring_back(a);
    expect_report(kFailed, "source");
    EXPECT_EQ(a.vm(kVm)["state"], "paused");
    ask_qemu(a, "cont");
    expect_at_a_and_moves();
}

TEST_F(SourceAgent, KilledBetweenTheWordAndTheByteLeavesAGuestThatWaitsForTheDestination) {
    a.restart(hold_at(step::kWordDecided));
    kill_when_held(kWouldRun);
    EXPECT_FALSE(runs_again) << "the word says COMMIT: nobody may run it on a guess";
    // The destination saw its streams break before COMMIT came.
    bring_back(a);
    expect_report({.exit_code = 1, .outcome = "failed", .words = {"refused"}}, "source");
    expect_at_a_and_moves();
}

class SourceAgentKilledAfterCommit : public SourceAgent,
                                     public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceAgentKilledAfterCommit, FindsTheGuestAtTheDestination) {
    a.restart(hold_at(GetParam()));
    commit_is_sent = true;
    kill_when_held(kWouldRun);
    EXPECT_FALSE(runs_again) << "the guest runs at the source after COMMIT";
    expect_alive_and_well(b, kVm, 100);
    bring_back(a);
    expect_report({.exit_code = 0, .outcome = "done", .words = {"the destination has the guest"}},
                  "destination");
    expect_only_at(b, a);
    expect_moves(b, a);
}

INSTANTIATE_TEST_SUITE_P(Steps, SourceAgentKilledAfterCommit,
                         ::testing::Values(step::kCommitSent, step::kResumedSeen), step_name);

TEST_F(SourceAgent, ThatCannotReadTheWordAnyMoreAsksTheDestination) {
    a.restart(hold_at(step::kCommitSent));
    const GuestWatch guest(a.ram_file(kVm));
    commit_is_sent = true;
    kill_when_held(kWouldRun);
    const std::string word = fmt::format("{}/migrations/{}/word", a.state_dir(), kId);
    std::filesystem::remove(word);
    std::filesystem::create_directory(word);
    bring_back(a);
    EXPECT_TRUE(guest.stands_still()) << "the guest runs at both ends";
    expect_report({.exit_code = 0, .outcome = "done", .words = {"the destination has the guest"}},
                  "destination");
    expect_only_at(b, a);
}

class SourceAgentStopped : public SourceAgent,
                           public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceAgentStopped, InTheFreezeLosesTheGuestToTheGuardAndObeys) {
    a.restart(hold_at(GetParam(), {"--freeze-limit", "0.5"}));
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = begin_migration();
    await_held(a);
    a.signal(SIGSTOP);
    // The guard's deadline is a few seconds after the freeze began.
    EXPECT_TRUE(
        eventually(std::chrono::seconds(20), [&] { return word_at(a) == Verdict::kAbort; }));
    EXPECT_TRUE(guest.until_it_runs(kRunsAgain)) << "the guest does not run again";
    let_go(a);
    a.signal(SIGCONT);
    expect_end(command, kFailed, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, SourceAgentStopped,
                         ::testing::Values(step::kGuardArmed, step::kFrozen,
                                           step::kDeviceStateLeaves, step::kVerified),
                         step_name);

// A cancel is the agent's own ABORT, and its rollback never comes.
TEST_F(SourceAgent, ThatHangsBeforeTheRollbackOfACancelLosesTheGuestToTheGuard) {
    a.restart(hold_at(step::kFrozen, {"--freeze-limit", "0.5"}));
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = begin_migration();
    await_held(a);
    EXPECT_EQ(a.cli({"cancel", kVm}).exit_code, 0);
    EXPECT_EQ(word_at(a), Verdict::kAbort);
    a.signal(SIGSTOP);
    // The guard waits for its deadline, a few seconds after the freeze began.
    EXPECT_TRUE(guest.until_it_runs(std::chrono::seconds(20))) << "the guest does not run again";
    let_go(a);
    a.signal(SIGCONT);
    expect_end(command, kCancelled, "source");
    expect_at_a_and_moves();
}

TEST_F(SourceAgent, ToldToEndInARoundCancelsAndItsSuccessorHasTheGuest) {
    BackgroundCommand command = begin_slow_round();
    a.end(SIGTERM);
    ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
    bring_back(a);
    expect_report(kCancelled, "source");
    expect_at_a_and_moves();
}

TEST_F(SourceAgent, ToldToEndInTheFreezeCancels) {
    a.restart(hold_at(step::kFrozen));
    BackgroundCommand command = begin_migration();
    await_held(a);
    a.signal(SIGTERM);
    EXPECT_TRUE(
        eventually(std::chrono::seconds(30), [&] { return word_at(a) == Verdict::kAbort; }));
    let_go(a);
    bring_back(a);
    expect_report(kCancelled, "source");
    expect_at_a_and_moves();
}

// Until the freeze it is launched and not begun: another takes its place. From then on the
// migration does without.
class GuardKilled : public SourceAgent, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(GuardKilled, HoldsNoMigrationUp) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    const std::vector<pid_t> guards = guards_of(a);
    ASSERT_EQ(guards.size(), 1U);
    kill_process(guards.front());
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
}

INSTANTIATE_TEST_SUITE_P(Steps, GuardKilled, ::testing::Values(step::kRoundSent, step::kFrozen),
                         step_name);

}  // namespace
}  // namespace godwit::testing
