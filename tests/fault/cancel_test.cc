// A migration is cancelled: by `godwit cancel`, by Ctrl-C; or its command dies.
#include <signal.h>

#include "tests/fault/lab.h"

namespace godwit::testing {
namespace {

class Cancel : public Lab {};

class CancelBeforeCommit : public Lab, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(CancelBeforeCommit, LeavesTheGuestAtTheSourceAndNothingAtTheDestination) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    const CommandResult cancel = a.cli({"cancel", kId});
    EXPECT_EQ(cancel.exit_code, 0) << cancel.err;
    let_go(a);
    expect_end(command, {.exit_code = 5, .outcome = "cancelled", .words = {"cancelled"}}, "source");
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 1) << "it has ended";
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, CancelBeforeCommit,
                         ::testing::Values(step::kPrepared, step::kRoundSent, step::kGuardStarted,
                                           step::kGuardArmed, step::kFrozen, step::kLastPagesSent,
                                           step::kDeviceStateLeaves, step::kLoaded,
                                           step::kVerified),
                         step_name);

class CancelWhileTheDestinationIs : public Lab,
                                    public ::testing::WithParamInterface<std::string_view> {};

TEST_P(CancelWhileTheDestinationIs, LeavesTheGuestAtTheSourceAndNothingAtTheDestination) {
    b.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(b);
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    let_go(b);
    expect_end(command, kCancelled, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, CancelWhileTheDestinationIs,
                         ::testing::Values(step::kIncoming, step::kStreamsAccepted,
                                           step::kDeviceStateCame, step::kLoadDone),
                         step_name);

class CtrlCBeforeCommit : public Lab, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(CtrlCBeforeCommit, CancelsAndSaysSo) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    command.signal(SIGINT);
    EXPECT_TRUE(
        eventually(std::chrono::seconds(30), [&] { return word_at(a) == Verdict::kAbort; }));
    let_go(a);
    expect_end(command, kCancelled, "source");
    expect_at_a_and_moves();
}

INSTANTIATE_TEST_SUITE_P(Steps, CtrlCBeforeCommit,
                         ::testing::Values(step::kPrepared, step::kRoundSent, step::kFrozen,
                                           step::kVerified),
                         step_name);

class CancelAfterCommit : public Lab, public ::testing::WithParamInterface<std::string_view> {};

TEST_P(CancelAfterCommit, IsRefusedAsTooLate) {
    a.restart(hold_at(GetParam()));
    BackgroundCommand command = begin_migration();
    await_held(a);
    const CommandResult cancel = a.cli({"cancel", kId});
    EXPECT_EQ(cancel.exit_code, 1) << cancel.err;
    EXPECT_NE(cancel.err.find("belongs to the destination"), std::string::npos) << cancel.err;
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
}

INSTANTIATE_TEST_SUITE_P(Steps, CancelAfterCommit,
                         ::testing::Values(step::kWordDecided, step::kCommitSent,
                                           step::kResumedSeen),
                         step_name);

TEST_F(Cancel, CtrlCAfterCommitIsTooLateAndTheEndIsReported) {
    a.restart(hold_at(step::kWordDecided));
    BackgroundCommand command = begin_migration();
    await_held(a);
    command.signal(SIGINT);
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
        return command.result().err.find("belongs to the destination") != std::string::npos;
    })) << command.result().err;
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
}

TEST_F(Cancel, InTheMiddleOfARoundEndsItAtOnce) {
    BackgroundCommand command = begin_slow_round();
    EXPECT_EQ(a.cli({"cancel", kVm}).exit_code, 0) << "by the VM's name too";
    expect_end(command, kCancelled, "source");
    expect_at_a_and_moves();
}

TEST_F(Cancel, ACommandThatIsKilledChangesNothing) {
    a.restart(hold_at(step::kRoundSent));
    {
        BackgroundCommand command = begin_migration();
        await_held(a);
        kill_process(command.pid());
    }
    let_go(a);
    expect_report(kDone, "destination");
    expect_only_at(b, a);
}

// A guest that its owner has paused.
class PausedGuest : public Lab {
  protected:
    void pause() {
        ask_qemu(a, "stop");
        ASSERT_EQ(a.vm(kVm)["state"], "paused");
    }
    // Paused at `here`, well once it is let run.
    void expect_paused_at(TestAgent& here) {
        EXPECT_EQ(here.vm(kVm)["state"], "paused");
        EXPECT_TRUE(GuestWatch(here.ram_file(kVm)).stands_still());
    }
    void expect_runs_on_at(TestAgent& here, TestAgent& there) {
        ask_qemu(here, "cont");
        expect_only_at(here, there);
    }
};

TEST_F(PausedGuest, StaysPausedAtTheDestination) {
    pause();
    BackgroundCommand command = begin_migration({"--verify"});
    expect_end(command, kDone, "destination");
    expect_paused_at(b);
    expect_nothing_left(a, kVm);
    expect_runs_on_at(b, a);
}

TEST_F(PausedGuest, ArrivesPausedByPostcopyWithAllOfItsPages) {
    pause();
    BackgroundCommand command = begin_migration({"--strategy", "postcopy", "--verify"});
    expect_end(command, kDone, "destination");
    EXPECT_EQ(json_of(command.result())["postcopy"]["used"], true);
    expect_paused_at(b);
    expect_nothing_left(a, kVm);
    expect_runs_on_at(b, a);
}

TEST_F(PausedGuest, WhoseOwnerPausesItWhileItMovesArrivesPaused) {
    a.restart(hold_at(step::kRoundSent));
    BackgroundCommand command = begin_migration({"--verify"});
    await_held(a);
    pause();
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_paused_at(b);
    expect_runs_on_at(b, a);
}

TEST_F(PausedGuest, WhoseOwnerLetsItRunWhileItMovesArrivesRunning) {
    pause();
    a.restart(hold_at(step::kRoundSent));
    BackgroundCommand command = begin_migration({"--verify"});
    await_held(a);
    ask_qemu(a, "cont");
    let_go(a);
    expect_end(command, kDone, "destination");
    expect_only_at(b, a);
}

TEST_F(PausedGuest, StaysPausedAtTheSourceWhenItsMigrationIsCancelled) {
    pause();
    a.restart(hold_at(step::kFrozen));
    BackgroundCommand command = begin_migration();
    await_held(a);
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    let_go(a);
    expect_end(command, kCancelled, "source");
    expect_paused_at(a);
    expect_nothing_left(b, kVm);
    // QEMU 7.2 holds such a guest in "postmigrate", and migrates it only once it has run.
    const CommandResult again = migrate(a, b.address(), kVm);
    if (again.exit_code == 0) return expect_paused_at(b);
    EXPECT_EQ(again.exit_code, 3) << again.err;
    EXPECT_NE(again.err.find("let it run first"), std::string::npos) << again.err;
    expect_paused_at(a);
    expect_runs_on_at(a, b);
    expect_moves(a, b);
}

TEST_F(PausedGuest, StaysPausedWhenTheSourcesAgentIsKilled) {
    pause();
    a.restart(hold_at(step::kLastPagesSent));
    BackgroundCommand command = begin_migration();
    await_held(a);
    a.end(SIGKILL);
    bring_back(a);
    expect_report(kFailed, "source");
    expect_paused_at(a);
    expect_nothing_left(b, kVm);
    expect_runs_on_at(a, b);
}

TEST_F(PausedGuest, StaysPausedWhenTheDestinationsAgentIsKilledAfterCommit) {
    pause();
    b.restart(hold_at(step::kContNoted));
    BackgroundCommand command = begin_migration();
    await_held(b);
    b.end(SIGKILL);
    bring_back(b);
    expect_end(command, kDone, "destination");
    expect_paused_at(b);
    expect_nothing_left(a, kVm);
    expect_runs_on_at(b, a);
}

TEST_F(PausedGuest, StaysPausedWithItsDisksWhenAllWasSentBeforeTheCancel) {
    pause();
    a.restart(hold_at(step::kVerified));
    BackgroundCommand command = begin_migration();
    await_held(a);
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    let_go(a);
    expect_end(command, kCancelled, "source");
    expect_paused_at(a);
    expect_nothing_left(b, kVm);
    expect_runs_on_at(a, b);
}

}  // namespace
}  // namespace godwit::testing
