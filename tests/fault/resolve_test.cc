// A guest in doubt, and an operator who knows where it is.
#include <signal.h>

#include "tests/fault/drain_lab.h"

namespace godwit::testing {
namespace {

constexpr const char* kOperatorSaid = "an operator said";

class Resolve : public DrainLab {
  protected:
    CommandResult resolve(const std::string& guest_at, const std::string& confirm = kVm) {
        std::vector<std::string> words = {"resolve", kId, "--guest-at", guest_at};
        if (!confirm.empty()) words.insert(words.end(), {"--confirm", confirm});
        return a.cli(words);
    }
    void expect_refusal(const CommandResult& result, const std::string& words) {
        EXPECT_NE(result.exit_code, 0);
        EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
    }
    // b's host dies with COMMIT on the wire, the agent first; a is in doubt.
    BackgroundCommand lose_b(std::string_view step, const std::vector<std::string>& flags) {
        hold(b, step);
        BackgroundCommand command = begin_migration(flags);
        await_held(b);
        const std::vector<pid_t> qemus = b.qemu_pids();
        b.end(SIGKILL);
        for (const pid_t qemu : qemus) kill_process(qemu);
        await_doubt();
        return command;
    }
    void await_doubt() {
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
            const nlohmann::json now = report();
            return now.is_object() && now["outcome"] == "in-doubt";
        }));
    }
    void expect_at_source_by_word(BackgroundCommand& command) {
        expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {kOperatorSaid}},
                   "source");
        bring_back(b);
        expect_back_at_a();
        expect_moves(a, b);
    }
};

const std::vector<std::string> kByPrecopy = {"--strategy", "precopy"};
const std::vector<std::string> kByPostcopy = {"--strategy", "postcopy", "--bandwidth", "4MiB/s"};

class ResolveToSource : public Resolve, public ::testing::WithParamInterface<bool> {};

TEST_P(ResolveToSource, LetsTheGuestRunOnThereOnceItIsConfirmed) {
    BackgroundCommand command = lose_b(step::kCommitCame, GetParam() ? kByPostcopy : kByPrecopy);
    const GuestWatch guest(a.ram_file(kVm));
    expect_refusal(resolve("source", ""), std::string("--confirm ") + kVm);
    expect_refusal(resolve("source", "another"), std::string("--confirm ") + kVm);
    EXPECT_TRUE(guest.stands_still()) << "nothing was confirmed";
    const CommandResult result = resolve("source");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    expect_at_source_by_word(command);
}

INSTANTIATE_TEST_SUITE_P(By, ResolveToSource, ::testing::Bool(), [](const auto& test) {
    return std::string(test.param ? "Postcopy" : "Precopy");
});

TEST_F(Resolve, IsRefusedWhileTheDestinationAnswers) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_postcopy();
    await_held(b);
    await_doubt();
    const GuestWatch guest(a.ram_file(kVm));
    for (const char* side : {"source", "destination"}) expect_refusal(resolve(side), "answers");
    EXPECT_TRUE(guest.stands_still());
    let_go(b);
    expect_drained_by(command);
}

TEST_F(Resolve, IsRefusedWhereNothingIsInDoubt) {
    expect_refusal(resolve("source"), "knows no migration");
    BackgroundCommand command = begin_slow_round();
    for (const char* side : {"source", "destination"})
        expect_refusal(resolve(side), "nothing is in doubt");
    EXPECT_EQ(a.cli({"cancel", kId}).exit_code, 0);
    expect_end(command, kCancelled, "source");
    expect_refusal(resolve("destination"), "nothing is in doubt");
    expect_back_at_a();
}

// The agent there has died, and its QEMU runs the guest.
TEST_F(Resolve, ToTheDestinationEndsTheSourcesCopy) {
    hold(b, step::kContDone);
    BackgroundCommand command = begin_migration(kByPrecopy);
    await_held(b);
    b.end(SIGKILL);
    await_doubt();
    expect_refusal(resolve("destination", ""), std::string("--confirm ") + kVm);
    EXPECT_EQ(a.qemu_pids().size(), 1U);
    const CommandResult result = resolve("destination");
    EXPECT_EQ(result.exit_code, 0) << result.err;
    expect_end(command, {.exit_code = 0, .outcome = "done", .words = {kOperatorSaid}},
               "destination");
    bring_back(b);
    expect_only_at(b, a);
    expect_moves(b, a);
}

TEST_F(Resolve, ToADestinationThatLacksPagesIsRefused) {
    BackgroundCommand command = lose_b(step::kCommitCame, kByPostcopy);
    expect_refusal(resolve("destination"), "last pages are still at the source");
    EXPECT_EQ(resolve("source").exit_code, 0);
    expect_at_source_by_word(command);
}

// The operator was wrong about the destination: its QEMU had COMMIT, and waits for an agent.
TEST_P(ResolveToSource, IsKnownToADestinationThatComesBackWithItsGuest) {
    hold(b, step::kContNoted);
    BackgroundCommand command = begin_migration(GetParam() ? kByPostcopy : kByPrecopy);
    await_held(b);
    b.end(SIGKILL);
    await_doubt();
    ASSERT_EQ(b.qemu_pids().size(), 1U);
    EXPECT_EQ(resolve("source").exit_code, 0);
    expect_end(command, {.exit_code = 1, .outcome = "failed", .words = {kOperatorSaid}}, "source");
    // Whoever answers is not who heard the operator.
    a.end(SIGKILL);
    bring_back(a);
    bring_back(b);
    EXPECT_NE(b.log().find("an operator had given the guest back to the source"),
              std::string::npos);
    expect_nothing_left(b);
    expect_back_at_a();
    expect_moves(a, b);
}

// The operator was wrong about the source as well: its QEMU has ended, and the destination's copy
// is the only one.
class ResolveToASourceWithoutItsGuest : public Resolve, public ::testing::WithParamInterface<bool> {
  protected:
    // With b's agent held there and killed, a's QEMU ends: while a is in doubt, or before its
    // successor is.
    BackgroundCommand lose_guest_at_a(const std::vector<std::string>& flags) {
        hold(b, step::kContNoted);
        BackgroundCommand command = begin_migration(flags);
        await_held(b);
        b.end(SIGKILL);
        await_doubt();
        const bool to_a_successor = GetParam();
        if (to_a_successor) a.end(SIGKILL);
        for (const pid_t qemu : a.qemu_pids()) kill_process(qemu);
        if (to_a_successor) {
            bring_back(a);
            await_doubt();
        }
        return command;
    }
};

TEST_P(ResolveToASourceWithoutItsGuest, LeavesItToTheDestination) {
    BackgroundCommand command = lose_guest_at_a(kByPrecopy);
    EXPECT_EQ(resolve("source").exit_code, 0);
    expect_report({.exit_code = 6, .outcome = "guest-died", .words = {kOperatorSaid}}, "none");
    bring_back(a);  // whoever answers is not who heard the operator
    bring_back(b);
    expect_only_at(b, a);
    expect_moves(b, a);
}

// What the destination's guest waits for would be deleted, and nobody would run.
TEST_P(ResolveToASourceWithoutItsGuest, IsRefusedWhileItsLastPagesAreThere) {
    BackgroundCommand command = lose_guest_at_a(kByPostcopy);
    EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] { return a.qemu_pids().empty(); }));
    expect_refusal(resolve("source"), "--guest-at none");
    bring_back(b);
    expect_only_at(b, a);
    expect_moves(b, a);
}

INSTANTIATE_TEST_SUITE_P(Of, ResolveToASourceWithoutItsGuest, ::testing::Bool(),
                         [](const auto& test) {
                             return std::string(test.param ? "ASuccessor" : "WhoWasInDoubt");
                         });

// The agent that was in doubt has ended; its successor is.
TEST_P(ResolveToSource, IsHeardByASuccessorInDoubt) {
    BackgroundCommand command = lose_b(step::kCommitCame, GetParam() ? kByPostcopy : kByPrecopy);
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);
    await_doubt();
    const GuestWatch guest(a.ram_file(kVm));
    EXPECT_TRUE(guest.stands_still());
    EXPECT_EQ(resolve("source").exit_code, 0);
    expect_report({.exit_code = 1, .outcome = "failed", .words = {kOperatorSaid}}, "source");
    bring_back(b);
    expect_back_at_a();
}

TEST_F(Resolve, IsNotForgottenByASuccessor) {
    hold(a, step::kConcluded);
    BackgroundCommand command = lose_b(step::kCommitCame, kByPrecopy);
    EXPECT_EQ(resolve("destination").exit_code, 0);
    await_held(a);
    a.end(SIGKILL);
    expect_lost(command);
    bring_back(a);  // b, which could be asked, is not there
    expect_report({.exit_code = 0, .outcome = "done", .words = {kOperatorSaid}}, "destination");
    EXPECT_TRUE(a.qemu_pids().empty());
    EXPECT_TRUE(a.ram_files_on_disk().empty());
}

}  // namespace
}  // namespace godwit::testing
