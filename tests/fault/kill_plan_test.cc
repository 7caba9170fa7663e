// What is drawn, without any agent.
#include "tests/fault/kill_plan.h"

#include <gtest/gtest.h>

#include <set>

namespace godwit::testing {
namespace {

TEST(KillPlan, OfTheSameSeedIsTheSame) {
    bool differs = false;
    for (uint64_t seed = 0; seed < 200; ++seed) {
        EXPECT_EQ(draw_plan(seed), draw_plan(seed));
        differs |= draw_plan(seed) != draw_plan(seed + 1);
    }
    EXPECT_TRUE(differs);
}

void expect_every_strategy_and_moment(std::span<const KillKind> kinds) {
    for (const KillKind& kind : kinds) {
        std::set<std::string> strategies;
        std::set<Moment> moments;
        uint64_t seed = 0;
        for (int i = 0; i < 60; ++i) {
            seed = next_seed_of(seed, kind, kinds) + 1;
            const KillPlan plan = draw_plan(seed - 1, kinds);
            EXPECT_EQ(plan.kind, kind);
            strategies.insert(plan.strategy);
            moments.insert(plan.moment);
        }
        EXPECT_EQ(strategies.size(), 4U) << describe(kind);
        EXPECT_EQ(moments.size(), 3U) << describe(kind);
    }
}

TEST(KillPlan, HasEveryStrategyAndMomentForEveryKind) {
    expect_every_strategy_and_moment(kKillKinds);
    expect_every_strategy_and_moment(kLibvirtKillKinds);
}

TEST(KillPlan, SaysHowToDoItAgain) {
    EXPECT_EQ(describe(draw_plan(7)).rfind("GODWIT_FAULT_SEED=7: ", 0), 0U);
}

}  // namespace
}  // namespace godwit::testing
