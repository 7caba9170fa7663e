// Who is first: an operator, or a destination that comes back.
#include "engine/source/in_doubt.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace godwit
