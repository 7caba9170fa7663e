#include "engine/destination/commit_order.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace godwit {
namespace {

using Calls = std::vector<std::string>;

// Answers as it was told, and remembers what was asked of it.
class ScriptedSteps final : public CommitSteps {
  public:
    std::deque<absl::Status> cont_answers;  // then Ok
    int live_failures = 0;                  // how often LIVE can't be noted
    bool cont_fails = false;                // CONT can't be
    bool ended = false;
    bool ran = false;
    bool agent_ends = false;
    absl::Status killed;
    Calls calls;

    absl::Status note(v1::JournalPhase phase, const std::string& /*detail*/) override {
        const bool fails = (phase == v1::JOURNAL_PHASE_CONT && cont_fails) ||
                           (phase == v1::JOURNAL_PHASE_LIVE && live_failures-- > 0);
        calls.push_back((fails ? "cannot note " : "note ") +
                        v1::JournalPhase_Name(phase).substr(std::string("JOURNAL_PHASE_").size()));
        return fails ? absl::ResourceExhaustedError("No space left on device") : absl::OkStatus();
    }
    absl::Status await_mapping_check() override { return absl::OkStatus(); }
    bool qemu_has_ended() override { return ended; }
    absl::Status resume() override {
        calls.emplace_back("cont");
        if (cont_answers.empty()) return absl::OkStatus();
        const absl::Status answer = cont_answers.front();
        cont_answers.pop_front();
        return answer;
    }
    bool has_run() override { return ran; }
    bool wait_to_ask_again() override {
        calls.emplace_back("wait");
        return !agent_ends;
    }
    absl::Status kill() override {
        calls.emplace_back("kill");
        return killed;
    }
    void now_refused(const std::string& /*why*/) override { calls.emplace_back("refused"); }
    absl::Status tell_refused(const std::string& /*why*/) override {
        calls.emplace_back("tell");
        return absl::OkStatus();
    }
    void at_step(std::string_view /*step*/) override {}
};

const absl::Status kLocked = absl::FailedPreconditionError("Failed to get \"write\" lock");

TEST(CommitOrder, NotesContBeforeQemuIsAsked) {
    ScriptedSteps steps;
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kGuestIsHere);
    EXPECT_EQ(steps.calls, (Calls{"note CONT", "cont"}));
}

TEST(CommitOrder, LeavesAPausedGuestPaused) {
    ScriptedSteps steps;
    const auto end = commit_here(steps, false);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kGuestIsHere);
    EXPECT_EQ(steps.calls, Calls{"note CONT"});
}

TEST(CommitOrder, AsksAgainUntilQemuAnswers) {
    ScriptedSteps steps;
    steps.cont_answers = {absl::DeadlineExceededError("late"), absl::UnavailableError("lost")};
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kGuestIsHere);
    EXPECT_EQ(steps.calls, (Calls{"note CONT", "cont", "wait", "cont", "wait", "cont"}));
}

TEST(CommitOrder, TakesAGuestThatRanAndStoppedForOneThatIsHere) {
    ScriptedSteps steps;
    steps.cont_answers = {kLocked};
    steps.ran = true;
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kGuestIsHere);
}

TEST(CommitOrder, EndsItsQemuBeforeAnybodyHearsRefused) {
    ScriptedSteps steps;
    steps.cont_answers = {kLocked};
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kRefused);
    EXPECT_EQ(steps.calls,
              (Calls{"note CONT", "cont", "note LIVE", "kill", "note REFUSED", "refused", "tell"}));
}

// The connection is lost before anybody sees that QEMU was being killed.
TEST(CommitOrder, RefusesWhereAQemuIsProvedNeverToHaveRunAlthoughItWasLostFirst) {
    ScriptedSteps steps;
    steps.cont_answers = {absl::UnavailableError("lost"), absl::AbortedError("has never run")};
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kRefused);
}

TEST(CommitOrder, TellsNobodyWhileItsQemuMayLive) {
    ScriptedSteps steps;
    steps.cont_answers = {kLocked};
    steps.killed = absl::DeadlineExceededError("it does not end");
    EXPECT_EQ(commit_here(steps, true).status(), kLocked);
    EXPECT_EQ(steps.calls, (Calls{"note CONT", "cont", "note LIVE", "kill"}));
}

TEST(CommitOrder, KeepsItsQemuUntilItIsNotedThatContWasRefused) {
    ScriptedSteps steps;
    steps.cont_answers = {kLocked};
    steps.live_failures = 2;
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kRefused);
    EXPECT_EQ(steps.calls,
              (Calls{"note CONT", "cont", "cannot note LIVE", "wait", "cannot note LIVE", "wait",
                     "note LIVE", "kill", "note REFUSED", "refused", "tell"}));
}

TEST(CommitOrder, LeavesItsQemuToItsSuccessorWhereTheRefusalCannotBeNoted) {
    ScriptedSteps steps;
    steps.cont_answers = {kLocked};
    steps.live_failures = 1;
    steps.agent_ends = true;
    EXPECT_TRUE(absl::IsCancelled(commit_here(steps, true).status()));
    EXPECT_EQ(steps.calls, (Calls{"note CONT", "cont", "cannot note LIVE", "wait"}));
}

TEST(CommitOrder, RefusesAtOnceWhereContCannotBeNoted) {
    ScriptedSteps steps;
    steps.cont_fails = true;
    steps.live_failures = 1;
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kRefused);
    EXPECT_EQ(steps.calls, (Calls{"cannot note CONT", "cannot note LIVE", "kill", "note REFUSED",
                                  "refused", "tell"}));
}

TEST(CommitOrder, NotesNoContForAQemuThatHasEnded) {
    ScriptedSteps steps;
    steps.ended = true;
    const auto end = commit_here(steps, true);
    ASSERT_TRUE(end.ok()) << end.status();
    EXPECT_EQ(*end, CommitHere::kRefused);
    EXPECT_EQ(steps.calls, (Calls{"note LIVE", "kill", "note REFUSED", "refused", "tell"}));
}

}  // namespace
}  // namespace godwit
