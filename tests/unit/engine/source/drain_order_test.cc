#include "engine/source/drain_order.h"

#include <gtest/gtest.h>

#include <deque>
#include <optional>
#include <string>
#include <vector>

namespace godwit {
namespace {

using Calls = std::vector<std::string>;
using Step = DrainSteps::Step;

constexpr DrainBegin kConnected{.connected = true};

v1::QueryResponse says(v1::IncomingState state, bool draining = false, bool guest_gone = false) {
    v1::QueryResponse response;
    response.set_state(state);
    response.set_draining(draining);
    response.set_guest_gone(guest_gone);
    return response;
}

// Answers as it was told, and remembers what was asked of it.
class ScriptedDrain final : public DrainSteps {
  public:
    std::deque<Step> answers;                             // to COMMIT, by connection
    std::deque<Step> pushes;                              // then kDrained
    std::deque<absl::StatusOr<v1::QueryResponse>> asked;  // to Reconnect
    std::deque<absl::Status> connects;                    // then Ok
    std::optional<Fate> word;                             // the operator's
    bool guest_is_here = true;
    bool agent_ends = false;
    Calls calls;

    Step await_resumed(bool in_doubt) override {
        calls.emplace_back(in_doubt ? "await in doubt" : "await");
        return take(answers, Step::kDone);
    }
    void now_resumed() override { calls.emplace_back("resumed"); }
    Step push() override {
        calls.emplace_back("push");
        return take(pushes, Step::kDrained);
    }
    void hang_up(bool lost) override { calls.emplace_back(lost ? "lost" : "hang up"); }
    bool wait_to_reconnect() override { return !agent_ends; }
    absl::StatusOr<v1::QueryResponse> ask_to_reconnect() override {
        calls.emplace_back("ask");
        if (asked.empty()) {
            agent_ends = true;
            return absl::UnavailableError("nobody is there");
        }
        return take(asked, absl::StatusOr<v1::QueryResponse>(v1::QueryResponse()));
    }
    absl::Status connect(bool resumed) override {
        calls.emplace_back(resumed ? "connect" : "connect in doubt");
        return take(connects, absl::OkStatus());
    }
    bool is_guest_here() override { return guest_is_here; }
    std::optional<Fate> operators_word() override { return word; }
    void forget_word() override {
        if (word) calls.emplace_back("forget");
        word.reset();
    }
    void still_away(const absl::Status& /*why*/) override { calls.emplace_back("away"); }

  private:
    template <typename T>
    static T take(std::deque<T>& from, T otherwise) {
        if (from.empty()) return otherwise;
        T first = from.front();
        from.pop_front();
        return first;
    }
};

TEST(DrainOrder, PushesAgainWhatTheDestinationStillMisses) {
    ScriptedDrain drain;
    drain.pushes = {Step::kDone};
    EXPECT_EQ(drain_in_order(drain, kConnected), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "push", "hang up"}));
}

TEST(DrainOrder, PushesToASuccessorOnceThatHasSaidResumed) {
    ScriptedDrain drain;
    drain.pushes = {Step::kLost};
    drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
    EXPECT_EQ(drain_in_order(drain, kConnected), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "lost", "ask",
                                  "connect in doubt", "await", "push", "hang up"}));
}

TEST(DrainOrder, PushesAtOnceToWhoSaysResumedWhenAsked) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_RESUMED, true)};
    EXPECT_EQ(drain_in_order(drain, {}), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"ask", "resumed", "connect", "push", "hang up"}));
}

TEST(DrainOrder, TakesNoRefusalFromWhoHasRunTheGuest) {
    ScriptedDrain drain;
    drain.answers = {Step::kDone, Step::kRefused};
    drain.pushes = {Step::kLost};
    drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
    EXPECT_EQ(drain_in_order(drain, kConnected), DrainEnd::kStopped);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "lost", "ask",
                                  "connect in doubt", "await", "lost", "ask", "away"}));
}

TEST(DrainOrder, BelievesARefusalInDoubt) {
    ScriptedDrain drain;
    drain.answers = {Step::kRefused};
    EXPECT_EQ(drain_in_order(drain, kConnected), DrainEnd::kRefused);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "hang up"}));
}

TEST(DrainOrder, GoesOnAskingWhoKnowsNothing) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_UNKNOWN), absl::UnavailableError("nobody is there"),
                   says(v1::INCOMING_STATE_RESUMED, false, true)};
    EXPECT_EQ(drain_in_order(drain, {}), DrainEnd::kGuestGone);
    EXPECT_EQ(drain.calls, (Calls{"ask", "away", "ask", "away", "ask", "resumed"}));
}

// --- an operator ----------------------------------------------------------------------------

TEST(DrainOrder, IsGivenUpByAnOperatorOnlyInDoubtAndInVain) {
    for (const auto& answer :
         {absl::StatusOr<v1::QueryResponse>(says(v1::INCOMING_STATE_UNKNOWN)),
          absl::StatusOr<v1::QueryResponse>(absl::UnavailableError("nobody is there"))}) {
        ScriptedDrain drain;
        drain.word = Fate::kRefused;
        drain.asked = {answer};
        EXPECT_EQ(drain_in_order(drain, {}), DrainEnd::kRefused);
        EXPECT_EQ(drain.calls, (Calls{"ask"}));
    }
    ScriptedDrain answered;
    answered.word = Fate::kRefused;
    answered.asked = {says(v1::INCOMING_STATE_RESUMED, true)};
    answered.pushes = {Step::kLost};
    EXPECT_EQ(drain_in_order(answered, {}), DrainEnd::kStopped);
    EXPECT_EQ(answered.calls,
              (Calls{"ask", "forget", "resumed", "connect", "push", "lost", "ask", "away"}));
}

// It can't be reached just now, and has the guest.
TEST(DrainOrder, BelievesNoOperatorBesideADestinationThatAnswers) {
    for (const Fate fate : {Fate::kRefused, Fate::kNowhere}) {
        ScriptedDrain drain;
        drain.word = fate;
        drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
        drain.connects = {absl::UnavailableError("no route")};
        EXPECT_EQ(drain_in_order(drain, {}), DrainEnd::kStopped);
        EXPECT_EQ(drain.calls, (Calls{"ask", "forget", "connect in doubt", "away", "ask", "away"}));
    }
}

TEST(DrainOrder, TakesNoGuestBackThatHasLeft) {
    ScriptedDrain drain;
    drain.word = Fate::kRefused;
    EXPECT_EQ(drain_in_order(drain, {.has_left = true}), DrainEnd::kStopped);
    EXPECT_EQ(drain.calls, (Calls{"ask", "away"}));
}

TEST(DrainOrder, EndsWithAGuestThatAnOperatorSaysIsLost) {
    for (const bool has_left : {false, true}) {
        ScriptedDrain drain;
        drain.word = Fate::kNowhere;
        drain.asked = {says(v1::INCOMING_STATE_UNKNOWN)};
        EXPECT_EQ(drain_in_order(drain, {.has_left = has_left}), DrainEnd::kGuestGone);
        EXPECT_EQ(drain.calls, (Calls{"ask"}));
    }
}

// --- a destination that was restarted -------------------------------------------------------

TEST(DrainOrder, EndsWithAGuestThatWasLostThereAfterResumed) {
    const v1::QueryResponse lost = says(v1::INCOMING_STATE_UNKNOWN, false, true);
    ScriptedDrain drain;
    drain.pushes = {Step::kLost};
    drain.asked = {lost};
    EXPECT_EQ(drain_in_order(drain, kConnected), DrainEnd::kGuestGone);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "lost", "ask"}));

    ScriptedDrain successor;
    successor.asked = {lost};
    EXPECT_EQ(drain_in_order(successor, {.has_left = true}), DrainEnd::kGuestGone);
}

TEST(DrainOrder, StaysInDoubtAboutAGuestThatStandsHereAndWasLostThere) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_UNKNOWN, false, true)};
    EXPECT_EQ(drain_in_order(drain, {}), DrainEnd::kStopped);
    EXPECT_EQ(drain.calls, (Calls{"ask", "away", "ask", "away"}));

    ScriptedDrain ended;
    ended.guest_is_here = false;
    ended.asked = {says(v1::INCOMING_STATE_UNKNOWN, false, true)};
    EXPECT_EQ(drain_in_order(ended, {}), DrainEnd::kGuestGone);
}

TEST(DrainOrder, RunsNothingThatHasLeftWhateverIsRefusedThen) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_REFUSED)};
    EXPECT_EQ(drain_in_order(drain, {.has_left = true}), DrainEnd::kGuestGone);
}

TEST(DrainOrder, AwaitsASuccessorsResumedWithoutADoubtWhereAnotherHasSaidIt) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
    EXPECT_EQ(drain_in_order(drain, {.has_left = true}), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls,
              (Calls{"ask", "connect in doubt", "await", "resumed", "push", "hang up"}));
}

}  // namespace
}  // namespace godwit
