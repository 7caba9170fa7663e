#include "bench/lab/run/plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace godwit {
namespace {

using ::testing::ElementsAre;

Scenario scenario() {
    const auto parsed = parse_scenarios(
        "name: one\nguest: {memory: 128MiB, ws: 16MiB}\nrepeats: 3\nengines:\n"
        "  - {engine: godwit, strategy: precopy}\n  - {engine: qemu}\n  - {engine: floor}\n",
        "x.yaml");
    EXPECT_TRUE(parsed.ok()) << parsed.status();
    return parsed->front();
}

std::vector<std::string> labels(const PlannedScenario& planned) {
    std::vector<std::string> all;
    for (const PlannedRow& row : planned.rows) all.push_back(row.label);
    return all;
}

TEST(Plan, BuildsAreRowsOfGodwitAndQemusAreRowsOfQemu) {
    const auto planned = plan({scenario()}, {.builds = {{"main", "/m"}, {"HEAD", "/h"}},
                                             .qemus = {{"/old", "7.2"}, {"/new", "11.1"}}});
    ASSERT_EQ(planned.size(), 1U);
    EXPECT_THAT(labels(planned[0]), ElementsAre("godwit-precopy@main", "godwit-precopy@HEAD",
                                                "qemu-precopy", "qemu-precopy@11.1", "floor"));
    EXPECT_EQ(planned[0].rows[1].build, 1U);
    EXPECT_EQ(planned[0].rows[1].qemu, "/old");
    EXPECT_EQ(planned[0].rows[3].qemu, "/new");
}

TEST(Plan, RepeatsAreTheRunsOwnElseTheScenarios) {
    EXPECT_EQ(plan({scenario()}, {.repeats = 0})[0].repeats, 3);
    EXPECT_EQ(plan({scenario()}, {.repeats = 9})[0].repeats, 9);
}

TEST(Plan, EachRepeatRunsEveryRowOnceAndTheWarmUpComesFirst) {
    const auto planned = plan({scenario()}, {.repeats = 2}).front();
    const auto steps = steps_of(planned, 1, 1, {});
    ASSERT_EQ(steps.size(), 9U);
    for (int repeat = -1; repeat < 2; ++repeat) {
        std::vector<size_t> rows;
        for (size_t i = 0; i < 3; ++i) {
            const Step& step = steps[static_cast<size_t>(repeat + 1) * 3 + i];
            EXPECT_EQ(step.repeat, repeat);
            rows.push_back(step.row);
        }
        EXPECT_THAT(rows, ::testing::UnorderedElementsAre(0, 1, 2));
    }
}

TEST(Plan, WhatIsDoneIsNotDoneAgainAndNeedsNoWarmUp) {
    const auto planned = plan({scenario()}, {.repeats = 2}).front();
    const DoneRuns done{{"one", "godwit-precopy", 0},
                        {"one", "godwit-precopy", 1},
                        {"one", "floor", 0},
                        {"another", "qemu-precopy", 0}};
    const auto steps = steps_of(planned, 1, 1, done);
    EXPECT_TRUE(
        std::none_of(steps.begin(), steps.end(), [](const Step& one) { return one.row == 0; }));
    EXPECT_EQ(steps.size(), 5U);  // two warm-ups, two of QEMU's, one of the floor
    EXPECT_TRUE(
        steps_of(plan({scenario()}, {.repeats = 1}).front(), 1, 1,
                 {{"one", "godwit-precopy", 0}, {"one", "qemu-precopy", 0}, {"one", "floor", 0}})
            .empty());
}

TEST(Plan, EachRepeatHasGuestsOfItsOwn) {
    EXPECT_EQ(guest_seed(7, 0), 7U);
    EXPECT_EQ(guest_seed(7, 3), 10U);
    EXPECT_EQ(guest_seed(0, -1), 0U);  // a warm-up
}

}  // namespace
}  // namespace godwit
