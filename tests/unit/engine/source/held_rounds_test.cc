#include "engine/source/held_rounds.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace godwit {
namespace {

constexpr Bytes kOneRound = Bytes{1} << 20;

TEST(HeldRounds, CountEveryRoundUntilOneIsReady) {
    HeldRounds held;
    for (uint32_t rounds = 1; rounds <= 3; ++rounds) {
        held.note(kOneRound, true);
        EXPECT_EQ(held.rounds_done(), rounds);
        EXPECT_FALSE(held.is_idle());
        EXPECT_FALSE(held.waits(NextStep::kRound, true));
    }
    EXPECT_EQ(held.page_bytes(), 3 * kOneRound);
    EXPECT_TRUE(held.waits(NextStep::kSwitch, true));
}

TEST(HeldRounds, DoNotWaitWhereNothingIsHeld) {
    HeldRounds held;
    held.note(kOneRound, false);
    for (const NextStep step : {NextStep::kSwitch, NextStep::kPostcopy, NextStep::kStopAndCopy})
        EXPECT_FALSE(held.waits(step, false));
}

TEST(HeldRounds, AreNotCountedWhileItIsReadyAndHeldWhateverThePolicySays) {
    HeldRounds held;
    held.note(kOneRound, true);
    ASSERT_TRUE(held.waits(NextStep::kSwitch, true));
    for (const NextStep step : {NextStep::kRound, NextStep::kThrottle, NextStep::kGiveUp,
                                NextStep::kSettlingRound, NextStep::kPostcopy}) {
        held.note(kOneRound, true);
        EXPECT_TRUE(held.is_idle());
        EXPECT_TRUE(held.waits(step, true));
    }
    EXPECT_EQ(held.rounds_done(), 1U);
    EXPECT_EQ(held.page_bytes(), kOneRound);
}

TEST(HeldRounds, BeginToCountAnewWhenItIsLetGoOn) {
    HeldRounds held;
    for (int i = 0; i < 30; ++i) held.note(kOneRound, true);
    ASSERT_TRUE(held.waits(NextStep::kSwitch, true));
    held.note(kOneRound, true);
    held.note(2 * kOneRound, false);
    EXPECT_FALSE(held.is_idle());
    EXPECT_EQ(held.rounds_done(), 1U);
    EXPECT_EQ(held.page_bytes(), 2 * kOneRound);
    EXPECT_FALSE(held.waits(NextStep::kRound, false));
    held.note(kOneRound, false);
    EXPECT_EQ(held.rounds_done(), 2U);
}

TEST(HeldRounds, NeitherGiveUpNorHoldVcpusBackAndSettleWhatADiskWrites) {
    for (const NextStep step : {NextStep::kRound, NextStep::kSwitch, NextStep::kStopAndCopy,
                                NextStep::kPostcopy, NextStep::kThrottle, NextStep::kGiveUp})
        EXPECT_EQ(HeldRounds::step(step), NextStep::kRound);
    EXPECT_EQ(HeldRounds::step(NextStep::kSettlingRound), NextStep::kSettlingRound);
}

// A guest that writes 20,000 pages a second of 8,192, at 400 MB/s, which is held for 1,000 rounds
// with half a second between them.
struct HeldGuest {
    ConvergenceLimits limits;
    uint32_t idle_rounds = 1000;

    static constexpr double kPageRate = 4e8;
    static constexpr uint64_t kTouched = uint64_t{1} << 18;

    static uint64_t written_in(double seconds) {
        return static_cast<uint64_t>(std::min(20'000 * seconds, 8192.0));
    }
    // What ends it, and whether the policy ever wanted to end it otherwise before it was let go on.
    Decision run() {
        HeldRounds held;
        uint64_t pages = kTouched;
        uint32_t idle = 0;
        while (true) {
            const bool is_held = idle < idle_rounds;
            const double seconds = static_cast<double>(pages * kPageBytes) / kPageRate + 0.002;
            const uint64_t dirty = written_in(seconds);
            held.note(pages * kPageBytes, is_held);
            const Decision decision =
                decide({.rounds_done = held.rounds_done(),
                        .duration = Duration(static_cast<int64_t>(seconds * 1e9)),
                        .round_pages = pages,
                        .dirty_pages = dirty,
                        .unsettled_pages = dirty,
                        .page_rate = kPageRate,
                        .check_rate = kPageRate,
                        .total_page_bytes = held.page_bytes(),
                        .touched = kTouched * kPageBytes,
                        .fixed_cost = std::chrono::milliseconds(10)},
                       limits);
            pages = dirty;
            if (held.waits(decision.step, is_held)) {
                ++idle;
                pages = std::min<uint64_t>(dirty + written_in(0.5), 8192);
            } else if (leaves_the_rounds(decision.step) || decision.step == NextStep::kGiveUp) {
                return decision;
            }
        }
    }
};

TEST(HeldRounds, LeaveAPrecopyThatConvergesAsItWas) {
    HeldGuest guest{.limits = {.downtime_limit = std::chrono::milliseconds(20), .max_rounds = 8}};
    const Decision decision = guest.run();
    EXPECT_EQ(decision.step, NextStep::kSwitch) << decision.reason;
}

TEST(HeldRounds, TakeNoPostcopyForAHybridThatConverges) {
    HeldGuest guest{.limits = {.strategy = Strategy::kHybrid,
                               .on_no_converge = NoConverge::kPostcopy,
                               .last_set_limit = std::chrono::milliseconds(5)}};
    const Decision decision = guest.run();
    EXPECT_EQ(decision.step, NextStep::kSwitch) << decision.reason;
}

}  // namespace
}  // namespace godwit
