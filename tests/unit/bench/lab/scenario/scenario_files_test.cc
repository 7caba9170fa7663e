// The scenarios of the repository, and choosing among them.
#include "bench/lab/scenario/scenario_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace godwit {
namespace {

using ::testing::HasSubstr;

std::vector<Scenario> repository() {
    auto all = load_scenarios(GODWIT_SCENARIOS);
    EXPECT_TRUE(all.ok()) << all.status();
    return all.ok() ? *std::move(all) : std::vector<Scenario>{};
}

std::set<std::string> names(const std::vector<Scenario>& scenarios) {
    std::set<std::string> all;
    for (const Scenario& one : scenarios) all.insert(one.name);
    return all;
}

TEST(ScenarioFiles, ThoseOfTheRepositoryAreRightAndEachIsInASet) {
    for (const Scenario& one : repository()) {
        EXPECT_FALSE(one.sets.empty()) << one.name;
        EXPECT_FALSE(one.about.empty()) << one.name;
        // 0: the run's own, which is 5.
        if (one.sets != std::vector<std::string>{"smoke"}) {
            EXPECT_TRUE(one.repeats == 0 || one.repeats >= 5) << one.name;
        }
    }
}

TEST(ScenarioFiles, EverySetIsThereAndFullIsMoreThanStandard) {
    const auto all = repository();
    const auto standard = choose(all, {"standard"});
    const auto full = choose(all, {"full"});
    ASSERT_TRUE(standard.ok() && full.ok() && choose(all, {"smoke"}).ok() &&
                choose(all, {"compare"}).ok());
    EXPECT_GT(full->size(), standard->size());
    for (const std::string& name : names(*standard)) EXPECT_TRUE(names(*full).contains(name));
    for (const std::string& name : names(*choose(all, {"smoke"})))
        EXPECT_FALSE(names(*full).contains(name));
}

TEST(ScenarioFiles, AWordIsASetAScenarioOrAllOfAName) {
    const auto all = repository();
    EXPECT_EQ(choose(all, {"dense"})->size(), 1U);
    EXPECT_EQ(choose(all, {"redirty-1g"})->size(), 2U);
    EXPECT_EQ(choose(all, {"redirty-1g/fill=text"})->size(), 1U);
    EXPECT_EQ(choose(all, {"dense", "dense"})->size(), 1U);
    EXPECT_THAT(std::string(choose(all, {"denser"}).status().message()),
                AllOf(HasSubstr("denser"), HasSubstr("smoke"), HasSubstr("text-1g")));
}

TEST(ScenarioFiles, AFilterLeavesRowsAndSaysWhenItLeavesNone) {
    const auto chosen = choose(repository(), {"dense", "text-1g"});
    const auto some = filter(*chosen, "dense: godwit");
    ASSERT_TRUE(some.ok()) << some.status();
    ASSERT_EQ(some->size(), 1U);
    EXPECT_EQ(some->front().rows.size(), 1U);
    EXPECT_FALSE(filter(*chosen, "nothing").ok());
    EXPECT_FALSE(filter(*chosen, "(").ok());
    EXPECT_EQ(filter(*chosen, "")->size(), 2U);
}

TEST(ScenarioFiles, ADirectoryWithoutScenariosIsNotFound) {
    EXPECT_TRUE(absl::IsNotFound(load_scenarios("/nonexistent").status()));
}

}  // namespace
}  // namespace godwit
