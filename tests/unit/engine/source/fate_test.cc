#include "engine/source/fate.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

constexpr SourceCopy kEveryCopy[] = {SourceCopy::kStands, SourceCopy::kEnded, SourceCopy::kLeft};

v1::QueryResponse said(v1::IncomingState state) {
    v1::QueryResponse answer;
    answer.set_state(state);
    answer.set_detail("its words");
    return answer;
}

v1::QueryResponse drains(v1::IncomingState state, uint64_t missing_pages) {
    v1::QueryResponse answer = said(state);
    answer.set_draining(true);
    answer.set_missing_pages(missing_pages);
    return answer;
}

v1::QueryResponse gone(v1::IncomingState state) {
    v1::QueryResponse answer = said(state);
    answer.set_guest_gone(true);
    return answer;
}

TEST(Fate, IsNotSettledByWhoKnowsNothingOrNotYet) {
    for (const SourceCopy copy : kEveryCopy)
        for (const v1::IncomingState state :
             {v1::INCOMING_STATE_UNKNOWN, v1::INCOMING_STATE_WAITING, v1::INCOMING_STATE_COMMITTED})
            EXPECT_FALSE(fate_in(said(state), copy)) << v1::IncomingState_Name(state);
}

TEST(Fate, IsWhatTheDestinationSays) {
    for (const SourceCopy copy : kEveryCopy) {
        const auto resumed = fate_in(said(v1::INCOMING_STATE_RESUMED), copy);
        ASSERT_TRUE(resumed);
        EXPECT_EQ(resumed->fate, Fate::kAtDestination);
        EXPECT_FALSE(resumed->guest_gone);
        EXPECT_EQ(resumed->detail, "its words");
        const auto dead = fate_in(gone(v1::INCOMING_STATE_RESUMED), copy);
        ASSERT_TRUE(dead);
        EXPECT_TRUE(dead->guest_gone);
    }
    for (const SourceCopy copy : {SourceCopy::kStands, SourceCopy::kEnded}) {
        const auto refused = fate_in(said(v1::INCOMING_STATE_REFUSED), copy);
        ASSERT_TRUE(refused);
        EXPECT_EQ(refused->fate, Fate::kRefused);
    }
}

TEST(Fate, OfAGuestThatHasLeftIsNeverToRunHereAgain) {
    const auto refused = fate_in(said(v1::INCOMING_STATE_REFUSED), SourceCopy::kLeft);
    ASSERT_TRUE(refused);
    EXPECT_EQ(refused->fate, Fate::kAtDestination);
    EXPECT_TRUE(refused->guest_gone);
}

TEST(Fate, OfAGuestThatWasLostThereIsSettledWhereNothingStandsHere) {
    const v1::QueryResponse lost = gone(v1::INCOMING_STATE_UNKNOWN);
    EXPECT_FALSE(fate_in(lost, SourceCopy::kStands));
    for (const SourceCopy copy : {SourceCopy::kEnded, SourceCopy::kLeft}) {
        const auto fate = fate_in(lost, copy);
        ASSERT_TRUE(fate);
        EXPECT_EQ(fate->fate, Fate::kAtDestination);
        EXPECT_TRUE(fate->guest_gone);
        EXPECT_EQ(fate->detail, "its words");
    }
}

TEST(Fate, IsNotSettledWhileOnlyASessionOrContIsOpen) {
    for (const SourceCopy copy : kEveryCopy)
        for (const v1::IncomingState state :
             {v1::INCOMING_STATE_COMMITTED, v1::INCOMING_STATE_RESUMED})
            EXPECT_FALSE(fate_in(drains(state, 0), copy));
}

TEST(Fate, IsNotSettledByAnAgentThatDoesNotSayWhatIsMissing) {
    v1::QueryResponse older = drains(v1::INCOMING_STATE_RESUMED, 7);
    older.clear_missing_pages();
    for (const SourceCopy copy : kEveryCopy) EXPECT_FALSE(fate_in(older, copy));
    EXPECT_NE(undecided_text(older), undecided_text(drains(v1::INCOMING_STATE_RESUMED, 0)));
}

TEST(Fate, OfAGuestWhosePagesNobodyHasIsAtTheDestination) {
    for (const SourceCopy copy : {SourceCopy::kEnded, SourceCopy::kLeft})
        for (const v1::IncomingState state :
             {v1::INCOMING_STATE_COMMITTED, v1::INCOMING_STATE_RESUMED}) {
            const auto fate = fate_in(drains(state, 1), copy);
            ASSERT_TRUE(fate);
            EXPECT_EQ(fate->fate, Fate::kAtDestination);
            EXPECT_TRUE(fate->lacks_pages);
            EXPECT_FALSE(fate->guest_gone);
        }
}

// COMMITTED is not RESUMED: what stands here may be the only whole copy.
TEST(Fate, OfTheOnlyWholeCopyIsNotSettledByCommitted) {
    EXPECT_FALSE(fate_in(drains(v1::INCOMING_STATE_COMMITTED, 1), SourceCopy::kStands));
    const auto resumed = fate_in(drains(v1::INCOMING_STATE_RESUMED, 1), SourceCopy::kStands);
    ASSERT_TRUE(resumed);
    EXPECT_TRUE(resumed->lacks_pages);
}

TEST(Fate, IsKnownToWhoAnswersAnythingElseThanThatItKnowsNothing) {
    EXPECT_FALSE(knows_fate(absl::UnavailableError("nobody is there")));
    EXPECT_FALSE(knows_fate(said(v1::INCOMING_STATE_UNKNOWN)));
    EXPECT_FALSE(knows_fate(gone(v1::INCOMING_STATE_UNKNOWN)));
    for (const v1::IncomingState state : {v1::INCOMING_STATE_WAITING, v1::INCOMING_STATE_COMMITTED,
                                          v1::INCOMING_STATE_RESUMED, v1::INCOMING_STATE_REFUSED})
        EXPECT_TRUE(knows_fate(said(state)));
}

}  // namespace
}  // namespace godwit
