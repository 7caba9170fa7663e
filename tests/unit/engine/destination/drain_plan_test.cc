#include "engine/destination/drain_plan.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

using D = DestinationPhase;

// The source ends its copy once it hears that the guest has died here: it must not hear that of a
// QEMU that was never asked to run it.
TEST(DrainPlan, LeavesAQemuThatEndsInCommitToWhoCarriesThatOut) {
    EXPECT_EQ(next_in_drain({.phase = D::kCommittedServing, .guest_gone = true}), DrainNext::kWait);
    EXPECT_EQ(
        next_in_drain({.phase = D::kCommittedServing, .source_comes = true, .guest_gone = true}),
        DrainNext::kServe);
}

TEST(DrainPlan, IsOverWithTheGuest) {
    EXPECT_EQ(next_in_drain({.phase = D::kDraining, .source_comes = true, .guest_gone = true}),
              DrainNext::kGuestGone);
}

TEST(DrainPlan, NeedsNobodyOnceEveryPageIsHere) {
    EXPECT_EQ(next_in_drain({.phase = D::kDraining, .complete = true}), DrainNext::kEnd);
    EXPECT_EQ(next_in_drain({.phase = D::kDraining}), DrainNext::kWait);
    EXPECT_EQ(next_in_drain({.phase = D::kDraining, .source_comes = true, .complete = true}),
              DrainNext::kServe);
}

TEST(DrainPlan, WaitsForCommitThoughEveryPageIsHere) {
    EXPECT_EQ(next_in_drain({.phase = D::kCommittedServing, .complete = true}), DrainNext::kWait);
}

TEST(DrainPlan, IsOverWhereTheGuestWillNeverRun) {
    for (const D phase : {D::kServing, D::kRefused, D::kDrained})
        EXPECT_EQ(next_in_drain({.phase = phase, .source_comes = true, .guest_gone = true}),
                  DrainNext::kOver);
}

}  // namespace
}  // namespace godwit
