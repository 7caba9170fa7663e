// Who is first: an operator, or a destination that comes back; and what settles a doubt.
#include "engine/source/in_doubt.h"

#include <gtest/gtest.h>

#include <deque>
#include <vector>

namespace godwit {
namespace {

class SetClock final : public Clock {
  public:
    [[nodiscard]] MonotonicTime now() const override { return now_; }
    void pass(Duration time) { now_ += time; }

  private:
    MonotonicTime now_{};
};

class OperatorsWordTest : public ::testing::Test {
  protected:
    SetClock clock;
    OperatorsWord word{clock};
};

TEST_F(OperatorsWordTest, TellsADestinationThatComesBackLater) {
    EXPECT_FALSE(word.said());
    EXPECT_TRUE(word.say(Fate::kRefused).ok());
    EXPECT_TRUE(word.given_back());
    EXPECT_EQ(word.said(), Fate::kRefused);
}

TEST_F(OperatorsWordTest, IsRefusedWhileADestinationThatHasAskedIsToAnswer) {
    EXPECT_FALSE(word.given_back());
    for (const Fate fate : {Fate::kRefused, Fate::kAtDestination})
        EXPECT_TRUE(absl::IsFailedPrecondition(word.say(fate)));
    EXPECT_FALSE(word.said());
    EXPECT_FALSE(word.given_back());
}

TEST_F(OperatorsWordTest, IsTakenAgainFromADestinationThatAskedAndDied) {
    EXPECT_FALSE(word.given_back());
    clock.pass(std::chrono::minutes(1));
    EXPECT_TRUE(word.say(Fate::kRefused).ok());
    EXPECT_TRUE(word.given_back());
}

TEST_F(OperatorsWordTest, OfTheDestinationGivesNothingBack) {
    EXPECT_TRUE(word.say(Fate::kAtDestination).ok());
    EXPECT_FALSE(word.given_back());
}

TEST_F(OperatorsWordTest, CountsOnce) {
    EXPECT_TRUE(word.say(Fate::kAtDestination).ok());
    EXPECT_TRUE(word.say(Fate::kAtDestination).ok());
    EXPECT_TRUE(absl::IsFailedPrecondition(word.say(Fate::kRefused)));
    EXPECT_EQ(word.said(), Fate::kAtDestination);
}

TEST_F(OperatorsWordTest, IsForgottenOnceADestinationHasAnswered) {
    EXPECT_TRUE(word.say(Fate::kRefused).ok());
    word.forget();
    EXPECT_FALSE(word.said());
    EXPECT_FALSE(word.given_back());
}

// --- settle() -------------------------------------------------------------------------------

v1::QueryResponse says(v1::IncomingState state) {
    v1::QueryResponse answer;
    answer.set_state(state);
    return answer;
}

v1::QueryResponse misses(uint64_t pages) {
    v1::QueryResponse answer = says(v1::INCOMING_STATE_RESUMED);
    answer.set_draining(true);
    answer.set_missing_pages(pages);
    return answer;
}

// Is told the agent ends once every answer is used up.
class ScriptedDoubt final : public Doubt {
  public:
    std::deque<absl::StatusOr<v1::QueryResponse>> answers;
    SourceCopy copy = SourceCopy::kStands;
    std::optional<Fate> word;
    std::vector<Fate> noted;
    std::vector<std::string> troubles;
    bool has_pages = false;
    int resumed = 0;

    absl::StatusOr<v1::QueryResponse> ask() override {
        absl::StatusOr<v1::QueryResponse> first = answers.front();
        answers.pop_front();
        return first;
    }
    SourceCopy copy_here() override { return copy; }
    std::optional<Fate> operators_word() override { return word; }
    void forget_word() override { word.reset(); }
    bool wait(Duration /*limit*/) override { return !answers.empty(); }
    bool may_have_pages() override { return has_pages; }
    void note_resumed() override {
        ++resumed;
        copy = SourceCopy::kLeft;
    }
    void note_resolution(Fate fate) override { noted.push_back(fate); }
    void trouble(const std::string& said) override { troubles.push_back(said); }
};

TEST(Settle, TakesAnOperatorsWordOnlyWhereTheDestinationKnowsNothing) {
    for (const Fate fate : {Fate::kAtDestination, Fate::kRefused, Fate::kNowhere}) {
        ScriptedDoubt doubt;
        doubt.word = fate;
        doubt.answers = {says(v1::INCOMING_STATE_UNKNOWN)};
        const auto settled = settle(doubt);
        ASSERT_TRUE(settled);
        EXPECT_EQ(settled->fate, fate);
        EXPECT_TRUE(settled->by_operator);
        EXPECT_EQ(doubt.noted, std::vector<Fate>{fate});
    }
    ScriptedDoubt doubt;
    doubt.word = Fate::kRefused;
    doubt.answers = {says(v1::INCOMING_STATE_COMMITTED), says(v1::INCOMING_STATE_UNKNOWN)};
    EXPECT_FALSE(settle(doubt)) << "it was said before the destination answered";
    EXPECT_TRUE(doubt.noted.empty());
}

// What is on its way there when it is asked first may be all that it misses.
TEST(Settle, CallsPagesLostOnceTwoAnswersInARowSayThatTheyAreMissing) {
    ScriptedDoubt doubt;
    doubt.copy = SourceCopy::kLeft;
    doubt.answers = {misses(7), misses(3), absl::UnavailableError("nobody is there"), misses(3)};
    const auto lost = settle(doubt);
    ASSERT_TRUE(lost);
    EXPECT_TRUE(lost->lacks_pages);
    EXPECT_TRUE(doubt.answers.empty());

    ScriptedDoubt whole;
    whole.copy = SourceCopy::kLeft;
    whole.answers = {misses(7), misses(0), misses(0), says(v1::INCOMING_STATE_RESUMED)};
    const auto settled = settle(whole);
    ASSERT_TRUE(settled);
    EXPECT_FALSE(settled->lacks_pages);
}

// An agent of before the field: that none is missing, or that any is, would be a guess.
TEST(Settle, TakesADestinationThatDoesNotSayWhatItMissesForNeitherWholeNorLost) {
    v1::QueryResponse older = says(v1::INCOMING_STATE_RESUMED);
    older.set_draining(true);
    ScriptedDoubt doubt;
    doubt.copy = SourceCopy::kLeft;
    doubt.answers = {older, older, older};
    EXPECT_FALSE(settle(doubt));
    ASSERT_EQ(doubt.troubles.size(), 1U);
    EXPECT_NE(doubt.troubles[0].find("does not say whether pages are missing"), std::string::npos)
        << doubt.troubles[0];
    // And none is no other number of them.
    doubt.answers = {misses(3), older, misses(3), misses(0)};
    EXPECT_FALSE(settle(doubt));
    EXPECT_NE(doubt.troubles.back().find("; 0 pages are missing there"), std::string::npos)
        << doubt.troubles.back();
}

// They are here, and can't be opened yet: whatever else the destination says counts all the same.
TEST(Settle, CallsNoPagesLostThatMayStillBeSent) {
    ScriptedDoubt doubt;
    doubt.has_pages = true;
    doubt.answers = {misses(3), misses(3), misses(3)};
    EXPECT_FALSE(settle(doubt));
    EXPECT_EQ(doubt.resumed, 1);

    v1::QueryResponse gone = says(v1::INCOMING_STATE_RESUMED);
    gone.set_guest_gone(true);
    doubt.answers = {misses(3), gone};
    const auto settled = settle(doubt);
    ASSERT_TRUE(settled);
    EXPECT_TRUE(settled->guest_gone);
}

TEST(Settle, TakesAnOperatorsWordWhilePagesAreWaitedFor) {
    ScriptedDoubt doubt;
    doubt.has_pages = true;
    doubt.answers = {misses(3), absl::UnavailableError("nobody is there")};
    EXPECT_FALSE(settle(doubt));
    doubt.word = Fate::kNowhere;
    doubt.answers = {absl::UnavailableError("nobody is there")};
    const auto settled = settle(doubt);
    ASSERT_TRUE(settled);
    EXPECT_EQ(settled->fate, Fate::kNowhere);
    EXPECT_EQ(doubt.noted, std::vector<Fate>{Fate::kNowhere});
}

}  // namespace
}  // namespace godwit
