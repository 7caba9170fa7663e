// Agents are killed and migrations cancelled before COMMIT of a guest whose last pages follow it
// has been heard: the guest stays at the source.
#include <signal.h>

#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

class DrainCommit : public DrainLab {};

// --- before COMMIT --------------------------------------------------------------------------

class SourceAgentKilledBeforeCommitOf : public DrainCommit,
                                        public ::testing::WithParamInterface<std::string_view> {};

TEST_P(SourceAgentKilledBeforeCommitOf, LeavesTheGuestAtTheSource) {
    hold(a, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    const GuestWatch guest(a.ram_file(kVm));
    EXPECT_TRUE(guest.until_it_runs(std::chrono::seconds(3), [&] { a.end(SIGKILL); }))
        << "the guest does not run again";
    expect_lost(command);
    bring_back(a);
    expect_report({.exit_code = 1, .outcome = "failed", .words = {"the agent ended"}}, "source");
    expect_back_at_a();
}

INSTANTIATE_TEST_SUITE_P(Postcopy, SourceAgentKilledBeforeCommitOf,
                         ::testing::Values(step::kPunchedEarly, step::kFrozen, step::kLastPagesSent,
                                           step::kVerified),
                         step_name);

class DestinationAgentKilledBeforeCommitOf
    : public DrainCommit,
      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledBeforeCommitOf, LeavesTheGuestAtTheSource) {
    hold(b, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    b.end(SIGKILL);
    expect_end(command, kFailed, "source");
    bring_back(b);
    expect_back_at_a();
}

INSTANTIATE_TEST_SUITE_P(Postcopy, DestinationAgentKilledBeforeCommitOf,
                         ::testing::Values(step::kArmed, step::kServing, step::kLoadDone),
                         step_name);

class DestinationAgentKilledWhileTheSourceOf
    : public DrainCommit,
      public ::testing::WithParamInterface<std::string_view> {};

TEST_P(DestinationAgentKilledWhileTheSourceOf, LeavesTheGuestAtTheSource) {
    hold(a, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    b.end(SIGKILL);
    await_log("the urgent stream has ended");
    let_go(a);
    expect_end(command, kFailed, "source");
    bring_back(b);
    expect_back_at_a();
}

INSTANTIATE_TEST_SUITE_P(Postcopy, DestinationAgentKilledWhileTheSourceOf,
                         ::testing::Values(step::kPunchedEarly, step::kFrozen, step::kVerified),
                         step_name);

class CancelBeforeCommitOf : public DrainCommit,
                             public ::testing::WithParamInterface<std::string_view> {};

TEST_P(CancelBeforeCommitOf, LeavesTheGuestAtTheSource) {
    hold(a, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    let_go(a);
    expect_end(command, kCancelled, "source");
    expect_back_at_a();
    expect_moves(a, b);
}

INSTANTIATE_TEST_SUITE_P(Postcopy, CancelBeforeCommitOf,
                         ::testing::Values(step::kPunchedEarly, step::kFrozen, step::kVerified),
                         step_name);

class DestinationQemuKilledBeforeCommitOf : public DrainCommit,
                                            public ::testing::WithParamInterface<std::string_view> {
};

TEST_P(DestinationQemuKilledBeforeCommitOf, LeavesTheGuestAtTheSource) {
    hold(b, GetParam());
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    kill_process(b.qemu_pids().front());
    let_go(b);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {"QEMU"}}, "source");
    expect_back_at_a();
}

INSTANTIATE_TEST_SUITE_P(Postcopy, DestinationQemuKilledBeforeCommitOf,
                         ::testing::Values(step::kServing, step::kLoadDone, step::kContNoted),
                         step_name);

// --- between COMMIT and the drain -----------------------------------------------------------

TEST_F(DrainCommit, SourceAgentKilledBetweenTheWordAndTheByteHasTheGuestBack) {
    hold(a, step::kWordDecided);
    BackgroundCommand command = begin_postcopy();
    await_held(a);
    const GuestWatch guest(a.ram_file(kVm));
    a.end(SIGKILL);
    EXPECT_TRUE(guest.stands_still()) << "the word says COMMIT: nobody may run it on a guess";
    expect_lost(command);
    bring_back(a);
    expect_report({.exit_code = 1, .outcome = "failed", .words = {"refused"}}, "source");
    expect_back_at_a();
}

TEST_F(DrainCommit, DestinationAgentKilledBeforeItNotedCommitRefuses) {
    hold(b, step::kCommitCame);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    b.end(SIGKILL);
    EXPECT_FALSE(command.wait(std::chrono::seconds(1))) << "in doubt, it must go on asking";
    bring_back(b);
    expect_end(command, kFailed, "source");
    expect_back_at_a();
}

// COMMIT is on the wire, and the destination has not noted it.
class CommitOnTheWire : public DrainCommit {
  protected:
    void SetUp() override {
        DrainCommit::SetUp();
        if (HasFatalFailure()) return;
        hold(a, step::kCommitSent);
        hold(b, step::kCommitCame);
        command.emplace(begin_postcopy());
        await_held(a);
        await_held(b);
        guest.emplace(a.ram_file(kVm));
    }
    void expect_given_back() {
        expect_report({.exit_code = 1, .outcome = "failed", .words = {"refused"}}, "source");
        expect_back_at_a();
    }

    std::optional<BackgroundCommand> command;
    std::optional<GuestWatch> guest;
};

class BothAgentsKilledWithCommitOnTheWire : public CommitOnTheWire,
                                            public ::testing::WithParamInterface<bool> {};

TEST_P(BothAgentsKilledWithCommitOnTheWire, HaveTheGuestAtTheSourceAgain) {
    const bool source_first = GetParam();
    b.end(SIGKILL);
    a.end(SIGKILL);
    expect_lost(*command);
    bring_back(source_first ? a : b);
    if (source_first) {
        EXPECT_TRUE(guest->stands_still()) << "nobody has said that it will not run there";
    }
    bring_back(source_first ? b : a);
    expect_given_back();
}

INSTANTIATE_TEST_SUITE_P(Postcopy, BothAgentsKilledWithCommitOnTheWire, ::testing::Bool(),
                         [](const auto& test) {
                             return std::string(test.param ? "SourceFirst" : "DestinationFirst");
                         });

TEST_F(CommitOnTheWire, FromASourceThatDiedIsRefused) {
    a.end(SIGKILL);
    expect_lost(*command);
    ASSERT_TRUE(eventually(std::chrono::seconds(30), [&] {
        return b.log().find("the streams end here") != std::string::npos;
    })) << b.log();
    let_go(b);
    EXPECT_TRUE(guest->stands_still()) << "nobody has told it what became of COMMIT";
    bring_back(a);
    expect_given_back();
}

}  // namespace
}  // namespace godwit::testing
