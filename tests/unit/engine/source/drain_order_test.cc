#include "engine/source/drain_order.h"

#include <gtest/gtest.h>

#include <deque>
#include <string>
#include <vector>

namespace godwit {
namespace {

using Calls = std::vector<std::string>;
using Step = DrainSteps::Step;

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
    bool given_up = false;
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
    bool is_given_up() override { return given_up; }
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
    EXPECT_EQ(drain_in_order(drain, true), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "push", "hang up"}));
}

TEST(DrainOrder, PushesToASuccessorOnceThatHasSaidResumed) {
    ScriptedDrain drain;
    drain.pushes = {Step::kLost};
    drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
    EXPECT_EQ(drain_in_order(drain, true), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "lost", "ask",
                                  "connect in doubt", "await", "push", "hang up"}));
}

TEST(DrainOrder, PushesAtOnceToWhoSaysResumedWhenAsked) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_RESUMED, true)};
    EXPECT_EQ(drain_in_order(drain, false), DrainEnd::kDrained);
    EXPECT_EQ(drain.calls, (Calls{"ask", "resumed", "connect", "push", "hang up"}));
}

TEST(DrainOrder, TakesNoRefusalFromWhoHasRunTheGuest) {
    ScriptedDrain drain;
    drain.answers = {Step::kDone, Step::kRefused};
    drain.pushes = {Step::kLost};
    drain.asked = {says(v1::INCOMING_STATE_COMMITTED, true)};
    EXPECT_EQ(drain_in_order(drain, true), DrainEnd::kStopped);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "resumed", "push", "lost", "ask",
                                  "connect in doubt", "await", "lost", "ask", "away"}));
}

TEST(DrainOrder, BelievesARefusalInDoubt) {
    ScriptedDrain drain;
    drain.answers = {Step::kRefused};
    EXPECT_EQ(drain_in_order(drain, true), DrainEnd::kRefused);
    EXPECT_EQ(drain.calls, (Calls{"await in doubt", "hang up"}));
}

TEST(DrainOrder, GoesOnAskingWhoKnowsNothing) {
    ScriptedDrain drain;
    drain.asked = {says(v1::INCOMING_STATE_UNKNOWN), absl::UnavailableError("nobody is there"),
                   says(v1::INCOMING_STATE_RESUMED, false, true)};
    EXPECT_EQ(drain_in_order(drain, false), DrainEnd::kGuestGone);
    EXPECT_EQ(drain.calls, (Calls{"ask", "away", "ask", "away", "ask", "resumed"}));
}

TEST(DrainOrder, IsGivenUpByAnOperatorOnlyInDoubtAndInVain) {
    ScriptedDrain drain;
    drain.given_up = true;
    drain.asked = {says(v1::INCOMING_STATE_UNKNOWN)};
    EXPECT_EQ(drain_in_order(drain, false), DrainEnd::kRefused);
    EXPECT_EQ(drain.calls, (Calls{"ask"}));

    ScriptedDrain answered;
    answered.given_up = true;
    answered.asked = {says(v1::INCOMING_STATE_RESUMED, true)};
    answered.pushes = {Step::kLost};
    EXPECT_EQ(drain_in_order(answered, false), DrainEnd::kStopped);
    EXPECT_EQ(answered.calls, (Calls{"ask", "resumed", "connect", "push", "lost", "ask", "away"}));
}

}  // namespace
}  // namespace godwit
