#include "bench/lab/scenario/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::ElementsAre;

std::vector<std::string> names(const std::string& yaml) {
    std::vector<std::string> all;
    for (const SweepPoint& point : sweep(YAML::Load(yaml))) all.push_back(sweep_name(point));
    return all;
}

TEST(Sweep, IsEveryCombinationTheLastKeyFastest) {
    EXPECT_THAT(names("{a: [1, 2], b: x, c: [3, 4]}"),
                ElementsAre("a=1,c=3", "a=1,c=4", "a=2,c=3", "a=2,c=4"));
}

TEST(Sweep, OfNothingIsOnePointWithoutAName) {
    EXPECT_THAT(names("{a: 1}"), ElementsAre(""));
    EXPECT_THAT(names("loopback"), ElementsAre(""));
}

TEST(Sweep, AnEmptyListLeavesNothing) { EXPECT_THAT(names("{a: []}"), ElementsAre()); }

TEST(Sweep, PointsDoNotShareTheirValues) {
    const auto points = sweep(YAML::Load("{a: [1, 2], b: [3]}"));
    ASSERT_EQ(points.size(), 2U);
    EXPECT_EQ(points[0].values["a"].as<int>(), 1);
    EXPECT_EQ(points[1].values["a"].as<int>(), 2);
    EXPECT_EQ(points[1].values["b"].as<int>(), 3);
}

TEST(Sweep, HasABound) {
    std::string list = "[0";
    for (int i = 1; i < 40; ++i) list += ", " + std::to_string(i);
    list += "]";
    EXPECT_EQ(sweep(YAML::Load("{a: " + list + ", b: " + list + "}")).size(), kMaxSweepPoints);
}

}  // namespace
}  // namespace godwit
