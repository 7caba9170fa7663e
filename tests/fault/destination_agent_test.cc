// The destination's agent is killed or stopped.
#include <signal.h>

#include "tests/fault/lab.h"

namespace godwit::testing {
namespace {

class DestinationAgent : public Lab {
  protected:
    // Holds `holder` at `step`, begins a migration, and kills b when it is held.
    BackgroundCommand kill_b_when_held(TestAgent& holder, std::string_view step) {
        holder.restart(hold_at(step));
        BackgroundCommand command = begin_migration();
        await_held(holder);
        b.end(SIGKILL);
        // What the source does next is what it knows.
        if (is_held(a)) await_log("the urgent stream has ended");
        let_go(a);
        return command;
    }
};

class DestinationAgentKilledBeforeCommit : public DestinationAgent,
                                           public ::testing::WithParamInterface<std::string_view> {
};

TEST_P(DestinationAgentKilledBeforeCommit, LeavesTheGuestRunningAtTheSource) {
    BackgroundCommand command = kill_b_when_held(b, GetParam());
    expect_end(command, kFailed, "source");
    expect_alive_and_well(a, kVm, 100);
    bring_back(b);
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, DestinationAgentKilledBeforeCommit,
                         ::testing::Values(step::kIncoming, step::kStreamsAccepted,
                                           step::kDeviceStateCame, step::kLoadDone),
                         step_name);

class DestinationAgentKilledWhileTheSourceIs
    : public DestinationAgent,
      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledWhileTheSourceIs, LeavesTheGuestRunningAtTheSource) {
    BackgroundCommand command = kill_b_when_held(a, GetParam());
    expect_end(command, kFailed, "source");
    bring_back(b);
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, DestinationAgentKilledWhileTheSourceIs,
                         ::testing::Values(step::kPrepared, step::kRoundSent, step::kGuardStarted,
                                           step::kGuardArmed, step::kFrozen, step::kLastPagesSent,
                                           step::kDeviceStateLeaves, step::kLoaded,
                                           step::kVerified),
                         step_name);

TEST_F(DestinationAgent, KilledBetweenTheWordAndTheByteLeavesADoubtThatItsSuccessorEnds) {
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = kill_b_when_held(a, step::kWordDecided);
    EXPECT_TRUE(guest.stands_still());
    EXPECT_FALSE(command.wait(std::chrono::seconds(1))) << "in doubt, it must go on asking";
    EXPECT_TRUE(guest.stands_still());
    const CommandResult cancel = a.cli({"cancel", kId});
    EXPECT_EQ(cancel.exit_code, 1) << cancel.err;
    EXPECT_NE(a.cli({"vm", "stop", kVm, "--force"}).exit_code, 0) << "the VM is not ours to stop";
    bring_back(b);
    expect_end(command, {.exit_code = 1, .outcome = "failed"}, "source");
    expect_at_a_and_moves();
}

TEST_F(DestinationAgent, KilledBeforeItNotedCommitRefuses) {
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = kill_b_when_held(b, step::kCommitCame);
    EXPECT_FALSE(command.wait(std::chrono::seconds(1)));
    EXPECT_TRUE(guest.stands_still());
    bring_back(b);
    expect_end(command, kFailed, "source");
    expect_at_a_and_moves();
}

// Its RAM file is out of the successor's sight, as after any other failure to adopt it.
TEST_F(DestinationAgent, WhoseSuccessorCannotAdoptTheQemuDoesNotSayRefused) {
    b.restart({.flags = hold_at(step::kCommitCame).flags, .wrapper = {"unshare", "-m"}});
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = begin_migration();
    await_held(b);
    const pid_t qemu = b.qemu_pids().at(0);
    b.end(SIGKILL);
    b.restart({.wrapper = {"unshare", "-m"}});
    EXPECT_FALSE(command.wait(std::chrono::seconds(2))) << command.result().err;
    EXPECT_TRUE(guest.stands_still()) << "a QEMU that may live is no refusal";
    EXPECT_EQ(b.qemu_pids(), std::vector<pid_t>{qemu});
    // One that sees the RAM file ends it, and refuses.
    b.restart({.wrapper = {"nsenter", "-m", "-t", std::to_string(qemu)}});
    expect_end(command, kFailed, "source");
    expect_only_at(a, b);
}

class DestinationAgentKilledAfterCommit : public DestinationAgent,
                                          public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledAfterCommit, ResumesTheGuestWhenItComesBack) {
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = kill_b_when_held(b, GetParam());
    EXPECT_TRUE(guest.stands_still()) << "the guest runs at the source after COMMIT";
    bring_back(b);
    expect_alive_and_well(b, kVm, 100);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
    expect_moves(b, a);
}

INSTANTIATE_TEST_SUITE_P(Steps, DestinationAgentKilledAfterCommit,
                         ::testing::Values(step::kContNoted, step::kContDone, step::kResumedSent),
                         step_name);

TEST_F(DestinationAgent, StoppedAfterCommitLeavesTheSourceInDoubtUntilItGoesOn) {
    b.restart(hold_at(step::kCommitCame));
    const GuestWatch guest(a.ram_file(kVm));
    BackgroundCommand command = begin_migration();
    await_held(b);
    b.signal(SIGSTOP);
    // Longer than the source waits for the answer on its stream.
    await_log("in doubt; ");
    EXPECT_TRUE(guest.stands_still()) << "in doubt, it stays paused";
    EXPECT_FALSE(command.wait(Duration::zero()));
    let_go(b);
    b.signal(SIGCONT);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
    expect_moves(b, a);
}

TEST_F(DestinationAgent, SourceThatIsKilledInDoubtGoesOnAskingWhenItComesBack) {
    BackgroundCommand command = kill_b_when_held(b, step::kContNoted);
    await_log("in doubt; ");
    const GuestWatch guest(a.ram_file(kVm));
    a.end(SIGKILL);
    EXPECT_TRUE(guest.stands_still());
    a.restart(AgentOptions{});
    EXPECT_TRUE(guest.stands_still());
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 1);
    bring_back(b);
    expect_report({.exit_code = 0, .outcome = "done", .words = {"the destination has the guest"}},
                  "destination");
    expect_only_at(b, a);
}

TEST_F(DestinationAgent, SourceThatIsToldToEndInDoubtLeavesTheDoubtToItsSuccessor) {
    BackgroundCommand command = kill_b_when_held(b, step::kContNoted);
    await_log("in doubt; ");
    const GuestWatch guest(a.ram_file(kVm));
    a.end(SIGTERM);
    ASSERT_TRUE(command.wait(std::chrono::seconds(30)));
    EXPECT_EQ(command.result().exit_code, 4) << command.result().err;
    a.restart(AgentOptions{});
    EXPECT_TRUE(guest.stands_still());
    bring_back(b);
    expect_report({.exit_code = 0, .outcome = "done", .words = {"the destination has the guest"}},
                  "destination");
    expect_only_at(b, a);
}

TEST_F(DestinationAgent, ToldToEndInARoundLeavesTheGuestRunningAtTheSource) {
    BackgroundCommand command = begin_slow_round();
    b.end(SIGTERM);
    expect_end(command, kFailed, "source");
    bring_back(b);
    expect_at_a_and_moves();
}

}  // namespace
}  // namespace godwit::testing
