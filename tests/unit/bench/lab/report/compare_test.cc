#include "bench/lab/report/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

// Ten runs of each row.
ResultFile sample() {
    ResultFile results = sample_results();
    for (RowResults& row : results.scenarios[0].rows) {
        const std::vector<Metrics> more = row.runs;
        row.runs.insert(row.runs.end(), more.begin(), more.end());
    }
    return results;
}

ResultFile scaled(double factor) {
    ResultFile results = sample();
    for (RowResults& row : results.scenarios[0].rows)
        for (Metrics& run : row.runs) run["total_ms"] *= factor;
    return results;
}

Change change_of(const std::vector<Change>& changes, const std::string& row) {
    const auto found = std::find_if(changes.begin(), changes.end(), [&](const Change& change) {
        return change.row == row && change.metric == "total_ms";
    });
    return found == changes.end() ? Change{} : *found;
}

TEST(Compare, SaysWhatBecameWorseAndBetter) {
    const auto worse = compare(sample(), scaled(2), 0.05);
    EXPECT_EQ(change_of(worse, "godwit-precopy").verdict, "worse");
    EXPECT_EQ(change_of(worse, "godwit-precopy").ratio, 2);
    EXPECT_EQ(change_of(worse, "godwit-precopy").delta, 1);
    EXPECT_EQ(change_of(compare(scaled(2), sample(), 0.05), "qemu-multifd").verdict, "better");
}

TEST(Compare, WhatIsWithinTheToleranceOrMayBeChanceIsTheSame) {
    EXPECT_EQ(change_of(compare(sample(), scaled(2), 1.5), "godwit-precopy").verdict, "same");
    EXPECT_EQ(change_of(compare(sample(), scaled(1.06), 0.05), "godwit-precopy").verdict, "same");
}

TEST(Compare, TwoBuildsOfOneRunAreToldApartByTheirLabels) {
    ResultFile both = sample();
    auto& rows = both.scenarios[0].rows;
    rows.resize(2);
    rows[0].label = "godwit-precopy@main";
    rows[1].label = "godwit-precopy@HEAD";
    const auto changes = compare(only_build(both, "main"), only_build(both, "HEAD"), 0.05);
    EXPECT_EQ(change_of(changes, "godwit-precopy").verdict, "worse");
    EXPECT_TRUE(compare(only_build(both, "none"), both, 0.05).empty());
}

Change failures_of(const std::vector<Change>& changes, const std::string& row) {
    const auto found = std::find_if(changes.begin(), changes.end(), [&](const Change& change) {
        return change.row == row && change.metric == "failed";
    });
    return found == changes.end() ? Change{} : *found;
}

TEST(Compare, ARowThatFailsMoreRunsIsWorse) {
    ResultFile after = sample();
    RowResults& row = after.scenarios[0].rows[0];
    row.runs.resize(8);
    row.failed = 2;
    const auto changes = compare(sample(), after, 0.05);
    EXPECT_EQ(failures_of(changes, "godwit-precopy").verdict, "worse");
    EXPECT_DOUBLE_EQ(failures_of(changes, "godwit-precopy").after, 0.2);
    EXPECT_EQ(failures_of(changes, "qemu-precopy").verdict, "");
    EXPECT_THAT(render_changes(changes, false), ::testing::HasSubstr("failed"));
    EXPECT_EQ(failures_of(compare(after, sample(), 0.05), "godwit-precopy").verdict, "better");
    EXPECT_EQ(failures_of(compare(after, after, 0.05), "godwit-precopy").verdict, "same");
}

TEST(Compare, ARowThatNeverSucceedsAnyMoreOrIsGoneIsWorse) {
    ResultFile broken = sample();
    broken.scenarios[0].rows[0].runs.clear();
    ResultFile gone = broken;
    broken.scenarios[0].rows[0].failed = 10;
    gone.scenarios[0].rows[0].missing = true;
    for (const ResultFile& after : {broken, gone})
        EXPECT_EQ(failures_of(compare(sample(), after, 0.05), "godwit-precopy").verdict, "worse");
    EXPECT_EQ(failures_of(compare(gone, sample(), 0.05), "godwit-precopy").verdict, "");
}

TEST(Compare, OfManyFiguresOneThatLooksSureByChanceIsTheSame) {
    // Alone it would be: p is 0.008. Of nine figures it is not.
    ResultFile before = sample_results();
    ResultFile after = before;
    for (Metrics& run : after.scenarios[0].rows[0].runs) run["total_ms"] *= 2;
    const auto nine = compare(before, after, 0.05);
    ASSERT_EQ(nine.size() - 1, 9U);  // and the failures of "floor"
    EXPECT_EQ(change_of(nine, "godwit-precopy").verdict, "same");
    EXPECT_NEAR(change_of(nine, "godwit-precopy").p, 9 * 2.0 / 252, 1e-12);
    EXPECT_THAT(render_changes(nine, false), ::testing::HasSubstr("too few runs"));
    for (ResultFile* results : {&before, &after}) results->scenarios[0].rows.resize(1);
    const auto three = compare(before, after, 0.05);
    EXPECT_EQ(change_of(three, "godwit-precopy").verdict, "worse");
    EXPECT_THAT(render_changes(three, false), ::testing::Not(::testing::HasSubstr("too few runs")));
}

TEST(Compare, TheTableLeavesOutWhatIsTheSame) {
    const auto changes = compare(sample(), scaled(2), 0.05);
    EXPECT_THAT(render_changes(changes, false), ::testing::HasSubstr("worse"));
    EXPECT_THAT(render_changes(changes, false), ::testing::Not(::testing::HasSubstr("cpu_s")));
    EXPECT_THAT(render_changes(changes, true), ::testing::HasSubstr("cpu_s"));
    EXPECT_EQ(changes_json(changes).size(), changes.size());
}

}  // namespace
}  // namespace godwit
