#include "tools/godwitd/incoming_load.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

constexpr bool kLives = false;
constexpr bool kEnded = true;

// So many that wait for COMMIT: their source still sends rounds, or holds them.
IncomingLoad waiting(size_t count) {
    IncomingLoad load;
    for (size_t i = 0; i < count; ++i) load.add(v1::INCOMING_STATE_WAITING, kLives);
    return load;
}

TEST(IncomingLoad, TakesAGangThatIsHeldWholeAndNobodyBesideIt) {
    EXPECT_FALSE(waiting(IncomingLoad::kMostWaiting - 1).is_full());
    EXPECT_TRUE(waiting(IncomingLoad::kMostWaiting).is_full());
}

TEST(IncomingLoad, WhatIsBeingPreparedWillWaitAndCounts) {
    IncomingLoad load = waiting(IncomingLoad::kMostWaiting - 2);
    load.add_prepared();
    EXPECT_FALSE(load.is_full());
    load.add_prepared();
    EXPECT_TRUE(load.is_full());
}

TEST(IncomingLoad, WhatIsOverTakesNoPlaceThoughNobodyHasSweptIt) {
    IncomingLoad load = waiting(IncomingLoad::kMostWaiting - 1);
    for (size_t i = 0; i < 1000; ++i) {
        load.add(v1::INCOMING_STATE_RESUMED, kEnded);
        load.add(v1::INCOMING_STATE_REFUSED, kEnded);
        load.add(v1::INCOMING_STATE_WAITING, kEnded);
    }
    EXPECT_FALSE(load.is_full());
    load.add(v1::INCOMING_STATE_WAITING, kLives);
    EXPECT_TRUE(load.is_full());
}

// Its source has heard RESUMED, and begins its next one.
TEST(IncomingLoad, AGuestThatRunsHereTakesNoPlaceOfWhatWaits) {
    IncomingLoad load = waiting(IncomingLoad::kMostWaiting - 1);
    for (const v1::IncomingState state : {v1::INCOMING_STATE_COMMITTED, v1::INCOMING_STATE_RESUMED})
        load.add(state, kLives);
    EXPECT_FALSE(load.is_full());
}

TEST(IncomingLoad, GuestsWhosePagesFollowHaveALimitOfTheirOwn) {
    IncomingLoad load;
    for (size_t i = 0; i + 1 < IncomingLoad::kMost; ++i)
        load.add(v1::INCOMING_STATE_RESUMED, kLives);
    EXPECT_FALSE(load.is_full());
    load.add(v1::INCOMING_STATE_RESUMED, kLives);
    EXPECT_TRUE(load.is_full());
}

}  // namespace
}  // namespace godwit
