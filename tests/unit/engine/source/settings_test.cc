#include "engine/source/settings.h"

#include <gtest/gtest.h>

namespace godwit {
namespace {

MigrationSettings settings(Strategy strategy, NoConverge on_no_converge) {
    MigrationSettings settings;
    settings.limits = {.strategy = strategy, .on_no_converge = on_no_converge};
    return settings;
}

TEST(MigrationSettings, MayThrottleWhereThatIsAskedForAndThereAreRounds) {
    EXPECT_TRUE(may_throttle(settings(Strategy::kPrecopy, NoConverge::kThrottle)));
    EXPECT_TRUE(may_throttle(settings(Strategy::kHybrid, NoConverge::kThrottle)));
    EXPECT_FALSE(may_throttle(settings(Strategy::kPostcopy, NoConverge::kThrottle)));
    EXPECT_FALSE(may_throttle(settings(Strategy::kStopAndCopy, NoConverge::kThrottle)));
    EXPECT_FALSE(may_throttle(settings(Strategy::kPrecopy, NoConverge::kPostcopy)));
}

TEST(MigrationSettings, MayUsePostcopyWhereTheLastPagesCanFollow) {
    EXPECT_TRUE(may_use_postcopy(settings(Strategy::kPostcopy, NoConverge::kFail)));
    EXPECT_TRUE(may_use_postcopy(settings(Strategy::kHybrid, NoConverge::kPostcopy)));
    EXPECT_TRUE(may_use_postcopy(settings(Strategy::kPrecopy, NoConverge::kPostcopy)));
    EXPECT_FALSE(may_use_postcopy(settings(Strategy::kPrecopy, NoConverge::kThrottle)));
    EXPECT_FALSE(may_use_postcopy(settings(Strategy::kStopAndCopy, NoConverge::kFail)));
}

TEST(MigrationSettings, KnowsEachStrategyByItsName) {
    for (const Strategy strategy :
         {Strategy::kStopAndCopy, Strategy::kPrecopy, Strategy::kPostcopy, Strategy::kHybrid}) {
        const auto parsed = parse_strategy(std::string(strategy_name(strategy)));
        ASSERT_TRUE(parsed.ok()) << parsed.status();
        EXPECT_EQ(*parsed, strategy);
    }
    const auto unknown = parse_strategy("teleport");
    EXPECT_EQ(unknown.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(unknown.status().message().find("hybrid"), std::string::npos) << unknown.status();
}

}  // namespace
}  // namespace godwit
