// Agents are killed, stopped and told to end while a guest's last pages follow it.
#include <signal.h>

#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class DrainTest : public DrainLab {
  protected:
    void expect_interruptions(const nlohmann::json& report, int least) {
        EXPECT_GE(report["postcopy"]["interruptions"], least);
        EXPECT_GT(report["postcopy"]["interrupted_ms"], 0);
    }
};

TEST_F(DrainTest, WithoutAnyFaultLeavesNothingBehind) {
    BackgroundCommand command = begin_postcopy();
    expect_drained_by(command);
    expect_moves(b, a);
}

// --- in the drain ---------------------------------------------------------------------------

class SourceAgentKilledAt : public DrainTest,
                            public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceAgentKilledAt, OnlyStallsTheGuestAndItsSuccessorFinishes) {
    hold(a, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    await_commit_heard();
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);
    expect_drained_in_the_end();
}

INSTANTIATE_TEST_SUITE_P(Drain, SourceAgentKilledAt,
                         ::testing::Values(step::kCommitSent, step::kResumedSeen, step::kDraining,
                                           step::kDrained),
                         step_name);

class DestinationAgentKilledAt : public DrainTest,
                                 public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledAt, OnlyStallsTheGuestAndItsSuccessorFinishes) {
    hold(b, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    b.end(SIGKILL);
    await_log("interrupted");
    EXPECT_FALSE(command.wait(std::chrono::milliseconds(500))) << command.result().err;
    bring_back(b);
    expect_drained_by(command);
}

INSTANTIATE_TEST_SUITE_P(Drain, DestinationAgentKilledAt,
                         ::testing::Values(step::kContNoted, step::kContDone, step::kResumedSent,
                                           step::kLastPageCame),
                         step_name);

class DestinationAgentKilledWhileTheSourceIsAt
    : public DrainTest,
      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledWhileTheSourceIsAt, OnlyStallsTheGuestAndItsSuccessorFinishes) {
    hold(a, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    await_commit_heard();
    b.end(SIGKILL);
    await_log("the urgent stream has ended");
    let_go(a);
    EXPECT_FALSE(command.wait(std::chrono::milliseconds(500)) && GetParam() != step::kDrained)
        << command.result().err;
    bring_back(b);
    expect_drained_by(command);
}

INSTANTIATE_TEST_SUITE_P(Drain, DestinationAgentKilledWhileTheSourceIsAt,
                         ::testing::Values(step::kCommitSent, step::kDraining, step::kDrained),
                         step_name);

struct Both {
    const char* name;
    bool hold_source;
    std::string_view step;
    bool source_first;  // comes back first
};
void PrintTo(const Both& both, std::ostream* out) { *out << both.name; }

class BothAgentsKilledAt : public DrainTest, public ::testing::WithParamInterface<Both> {};

TEST_P(BothAgentsKilledAt, OnlyStallTheGuestAndTheirSuccessorsFinish) {
    TestAgent& holder = GetParam().hold_source ? a : b;
    hold(holder, GetParam().step);
    BackgroundCommand command = begin_postcopy();
    await_held(holder);
    await_commit_heard();
    b.end(SIGKILL);
    a.end(SIGKILL);
    expect_lost(command);
    for (TestAgent* agent : {GetParam().source_first ? &a : &b, GetParam().source_first ? &b : &a})
        bring_back(*agent);
    expect_drained_in_the_end();
}

INSTANTIATE_TEST_SUITE_P(
    Drain, BothAgentsKilledAt,
    ::testing::Values(Both{"CommitSentSourceFirst", true, step::kCommitSent, true},
                      Both{"Draining", true, step::kDraining, false},
                      Both{"Drained", true, step::kDrained, false},
                      Both{"ContNoted", false, step::kContNoted, false},
                      Both{"ContDoneSourceFirst", false, step::kContDone, true},
                      Both{"LastPageCameSourceFirst", false, step::kLastPageCame, true}),
    [](const auto& test) { return std::string(test.param.name); });

enum class Victim { kSource, kDestination, kBoth };

class KilledInTheMiddle : public DrainTest, public ::testing::WithParamInterface<Victim> {};

TEST_P(KilledInTheMiddle, OnlyStallsTheGuest) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.25)) << "too fast to be caught";
    if (GetParam() != Victim::kSource) b.end(SIGKILL);
    if (GetParam() != Victim::kDestination) a.end(SIGKILL);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    const GuestWatch guest(b.ram_files_on_disk().at(0));
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] { return guest.stands_still(); }))
        << "it finds all its pages without anybody's help";
    EXPECT_GT(missing_at_b(), 0U);
    if (GetParam() != Victim::kSource) bring_back(b);
    if (GetParam() != Victim::kDestination) {
        bring_back(a);
        expect_lost(command);
        expect_drained_in_the_end();
    } else {
        expect_drained_by(command);
        expect_interruptions(report(), 1);
    }
    EXPECT_GT(report()["postcopy"]["longest_stall_ms"], 0) << report()["postcopy"];
    expect_moves(b, a);
}

INSTANTIATE_TEST_SUITE_P(Drain, KilledInTheMiddle,
                         ::testing::Values(Victim::kSource, Victim::kDestination, Victim::kBoth),
                         [](const auto& test) {
                             return std::string(test.param == Victim::kSource        ? "Source"
                                                : test.param == Victim::kDestination ? "Destination"
                                                                                     : "Both");
                         });

// Once more and once more: every successor finds what its predecessor left.
TEST_F(DrainTest, SurvivesThatBothAgentsDieAgainAndAgain) {
    BackgroundCommand command = begin_postcopy();
    for (const double part : {0.1, 0.3, 0.5}) {
        if (!await_drained(part)) break;
        b.end(SIGKILL);
        a.end(SIGKILL);
        bring_back(part == 0.3 ? a : b);
        bring_back(part == 0.3 ? b : a);
    }
    expect_lost(command);
    expect_drained_in_the_end();
}

class StoppedInTheDrain : public DrainTest, public ::testing::WithParamInterface<Victim> {};

TEST_P(StoppedInTheDrain, OnlyStallsTheGuestUntilItGoesOn) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    TestAgent& victim = GetParam() == Victim::kSource ? a : b;
    victim.signal(SIGSTOP);
    const GuestWatch guest(b.ram_files_on_disk().at(0));
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] { return guest.stands_still(); }));
    victim.signal(SIGCONT);
    expect_drained_by(command);
}

INSTANTIATE_TEST_SUITE_P(Drain, StoppedInTheDrain,
                         ::testing::Values(Victim::kSource, Victim::kDestination),
                         [](const auto& test) {
                             return std::string(test.param == Victim::kSource ? "Source"
                                                                              : "Destination");
                         });

TEST_F(DrainTest, SourceAgentToldToEndLeavesTheRestToItsSuccessor) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    b.signal(SIGSTOP);  // or it could be over while the agent ends
    a.end(SIGTERM);
    b.signal(SIGCONT);
    expect_lost(command);
    EXPECT_FALSE(kept_files(a).empty());
    bring_back(a);
    expect_drained_in_the_end();
    EXPECT_EQ(report()["reason"], "");
}

TEST_F(DrainTest, DestinationAgentToldToEndLeavesTheRestToItsSuccessor) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    b.end(SIGTERM);
    await_log("interrupted");
    bring_back(b);
    expect_drained_by(command);
    expect_interruptions(report(), 1);
}

TEST_F(DrainTest, SourceAgentToldToEndBeforeTheAnswerToCommitLeavesTheDoubtToItsSuccessor) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    a.end(SIGTERM);
    expect_lost(command);
    bring_back(a);
    let_go(b);
    expect_drained_in_the_end();
}

// QEMU has not answered `cont` yet, and may carry it out when nobody listens any more.
TEST_F(DrainTest, DestinationAgentToldToEndWhileContWaitsLeavesTheGuestToItsSuccessor) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    const pid_t qemu = b.qemu_pids().front();
    ASSERT_EQ(::kill(qemu, SIGSTOP), 0);
    let_go(b);
    b.end(SIGTERM);
    EXPECT_FALSE(command.wait(Duration::zero())) << "nobody has said where the guest is";
    ASSERT_EQ(::kill(qemu, SIGCONT), 0);
    bring_back(b);
    expect_drained_by(command);
}

// --- the destination's QEMU dies ------------------------------------------------------------

class GuestDies : public DrainTest {
  protected:
    void kill_guest_in_drain() {
        ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
        ASSERT_EQ(b.qemu_pids().size(), 1U);
        kill_process(b.qemu_pids().front());
    }
    void expect_nowhere() {
        witness->expect_one();
        expect_nothing_left(a, kVm);
        expect_nothing_left(b, kVm);
        EXPECT_TRUE(eventually(
            std::chrono::seconds(30),
            [&] { return a.ram_files_on_disk().empty() && b.ram_files_on_disk().empty(); }))
            << ::testing::PrintToString(a.ram_files_on_disk())
            << ::testing::PrintToString(b.ram_files_on_disk());
        EXPECT_TRUE(a.qemu_pids().empty());
        EXPECT_TRUE(b.qemu_pids().empty());
    }
};

TEST_F(GuestDies, InTheDrainAndNothingIsLeftAnywhere) {
    BackgroundCommand command = begin_postcopy();
    kill_guest_in_drain();
    expect_end(command, kDied, "none");
    expect_nowhere();
}

TEST_F(GuestDies, WhileItsAgentIsAway) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    b.end(SIGKILL);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    bring_back(b);
    expect_end(command, kDied, "none");
    expect_nowhere();
}

TEST_F(GuestDies, WhileTheSourcesAgentIsAway) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.2)) << "too fast to be caught";
    a.end(SIGKILL);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    expect_lost(command);
    bring_back(a);
    expect_report(kDied, "none");
    expect_nowhere();
}

// --- what the operator can do ---------------------------------------------------------------

TEST_F(DrainTest, CancelIsTooLateAndSaysWhereTheGuestIs) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.1)) << "too fast to be caught";
    const CommandResult cancel = a.cli({"cancel", kId, "--json"});
    EXPECT_EQ(cancel.exit_code, 1) << cancel.err;
    EXPECT_NE(cancel.err.find("belongs to the destination"), std::string::npos) << cancel.err;
    EXPECT_NE(cancel.out.find("TOO_LATE"), std::string::npos) << cancel.out;
    EXPECT_NE(cancel.out.find("destination"), std::string::npos) << cancel.out;
    EXPECT_EQ(report()["guest_at"], "destination");
    expect_drained_by(command);
}

TEST_F(DrainTest, CancelIsTooLateInARestartedAgentToo) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.1)) << "too fast to be caught";
    // The guest runs there before this agent has noted that it knows.
    ASSERT_TRUE(eventually(std::chrono::seconds(10), [&] { return journal_says("DRAINING"); }));
    b.end(SIGKILL);
    a.end(SIGKILL);
    bring_back(a);
    const CommandResult cancel = a.cli({"cancel", kId, "--json"});
    EXPECT_EQ(cancel.exit_code, 1) << cancel.err;
    EXPECT_NE(cancel.err.find("belongs to the destination"), std::string::npos) << cancel.err;
    const nlohmann::json now = report();
    EXPECT_EQ(now["outcome"], "running");
    EXPECT_EQ(now["guest_at"], "destination");
    EXPECT_EQ(now["retry_safe"], false);
    bring_back(b);
    expect_lost(command);
    expect_drained_in_the_end();
}

// A guest that asks for little: what is missing comes as the limit lets it.
class PatientDrainTest : public DrainTest {
  protected:
    [[nodiscard]] std::string guest_words() const override {
        return "ws=8M rate=50 pattern=random sweep=250 rest=halt dma=512K diskrate=10";
    }
};

TEST_F(PatientDrainTest, ALimitOutlivesTheSourceAgentAndIsLiftedInItsSuccessor) {
    BackgroundCommand command =
        begin_migration({"--strategy", "postcopy", "--bandwidth", "64KiB/s"});
    ASSERT_TRUE(
        eventually(std::chrono::seconds(30), [&] { return witness->ran_at_destination(); }));
    ASSERT_EQ(a.cli({"limit", kId, "--bandwidth", "65000B/s"}).exit_code, 0);
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] { return journal_says("65000"); }));
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);
    EXPECT_GT(missing_at_b(), 0U);
    EXPECT_EQ(a.cli({"limit", kId, "--bandwidth", "unlimited"}).exit_code, 0);
    expect_drained_in_the_end();
    EXPECT_EQ(report()["bandwidth_bytes_per_s"], 0);
}

TEST_F(DrainTest, ResumeTriesAtOnceWhenInterruptedAndIsRefusedWhenNot) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.1)) << "too fast to be caught";
    const CommandResult early = a.cli({"resume", kId});
    EXPECT_EQ(early.exit_code, 3) << early.err;
    EXPECT_NE(early.err.find("nothing is interrupted"), std::string::npos) << early.err;
    b.end(SIGKILL);
    await_log("interrupted");
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] {
        return a.cli({"resume", kId}).exit_code == 0;
    }));
    EXPECT_EQ(a.cli({"resume", kVm}).exit_code, 0) << "by the VM's name too";
    bring_back(b);
    expect_drained_by(command);
    EXPECT_NE(a.cli({"resume", kId}).exit_code, 0) << "it has ended";
}

TEST_F(DrainTest, ResumeWorksInARestartedAgent) {
    BackgroundCommand command = begin_postcopy();
    ASSERT_TRUE(await_drained(0.1)) << "too fast to be caught";
    b.end(SIGKILL);
    a.end(SIGKILL);
    bring_back(a);
    EXPECT_TRUE(eventually(std::chrono::seconds(10), [&] {
        return a.cli({"resume", kId}).exit_code == 0;
    }));
    bring_back(b);
    expect_lost(command);
    expect_drained_in_the_end();
}

}  // namespace
}  // namespace godwit::testing
