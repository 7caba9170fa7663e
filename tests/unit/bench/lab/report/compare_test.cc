#include "bench/lab/report/compare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

ResultFile scaled(double factor) {
    ResultFile results = sample_results();
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
    const auto worse = compare(sample_results(), scaled(2), 0.05);
    EXPECT_EQ(change_of(worse, "godwit-precopy").verdict, "worse");
    EXPECT_EQ(change_of(worse, "godwit-precopy").ratio, 2);
    EXPECT_EQ(change_of(worse, "godwit-precopy").delta, 1);
    EXPECT_EQ(change_of(compare(scaled(2), sample_results(), 0.05), "qemu-multifd").verdict,
              "better");
}

TEST(Compare, WhatIsWithinTheToleranceOrMayBeChanceIsTheSame) {
    EXPECT_EQ(change_of(compare(sample_results(), scaled(2), 1.5), "godwit-precopy").verdict,
              "same");
    EXPECT_EQ(change_of(compare(sample_results(), scaled(1.06), 0.05), "godwit-precopy").verdict,
              "same");
}

TEST(Compare, TwoBuildsOfOneRunAreToldApartByTheirLabels) {
    ResultFile both = sample_results();
    auto& rows = both.scenarios[0].rows;
    rows.resize(2);
    rows[0].label = "godwit-precopy@main";
    rows[1].label = "godwit-precopy@HEAD";
    const auto changes = compare(only_build(both, "main"), only_build(both, "HEAD"), 0.05);
    EXPECT_EQ(change_of(changes, "godwit-precopy").verdict, "worse");
    EXPECT_TRUE(compare(only_build(both, "none"), both, 0.05).empty());
}

TEST(Compare, TheTableLeavesOutWhatIsTheSame) {
    const auto changes = compare(sample_results(), scaled(2), 0.05);
    EXPECT_THAT(render_changes(changes, false), ::testing::HasSubstr("worse"));
    EXPECT_THAT(render_changes(changes, false), ::testing::Not(::testing::HasSubstr("cpu_s")));
    EXPECT_THAT(render_changes(changes, true), ::testing::HasSubstr("cpu_s"));
    EXPECT_EQ(changes_json(changes).size(), changes.size());
}

}  // namespace
}  // namespace godwit
