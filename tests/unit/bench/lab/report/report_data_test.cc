#include "bench/lab/report/report_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

TEST(ReportData, TheBaselineIsTheFastestPeerAndRatiosAreAgainstIt) {
    const auto data = report_data(sample_results());
    const auto& scenario = data["scenarios"][0];
    EXPECT_EQ(scenario["baseline"], "qemu-multifd");
    const auto& ours = scenario["rows"][0];
    EXPECT_EQ(ours["stats"]["total_ms"]["median"], 12);
    EXPECT_EQ(ours["stats"]["total_ms"]["q1"], 11);
    EXPECT_EQ(ours["n"], 5);
    EXPECT_NEAR(ours["versus"]["total_ms"]["ratio"].get<double>(), 12.0 / 22, 1e-12);
    EXPECT_NEAR(ours["versus"]["total_ms"]["p"].get<double>(), 2.0 / 252, 1e-12);
    EXPECT_EQ(ours["versus"]["total_ms"]["delta"], -1);
    EXPECT_FALSE(ours["series"].empty());
}

TEST(ReportData, WithoutAPeerTheFirstThatRanIsTheBaseline) {
    ResultFile results = sample_results();
    auto& rows = results.scenarios[0].rows;
    std::erase_if(rows, [](const RowResults& row) { return row.kind == "qemu"; });
    std::reverse(rows.begin(), rows.end());
    EXPECT_EQ(report_data(results)["scenarios"][0]["baseline"], "godwit-precopy");
}

TEST(ReportData, TargetsAreMetMissedOrNotMeasured) {
    const auto data = report_data(sample_results());
    const auto& targets = data["scenarios"][0]["targets"];
    EXPECT_EQ(targets[0]["verdict"], "missed");  // 22 / 12
    EXPECT_EQ(targets[0]["peer"], "qemu-multifd");
    EXPECT_NEAR(targets[0]["value"].get<double>(), 22.0 / 12, 1e-12);
    EXPECT_EQ(targets[1]["verdict"], "met");
    EXPECT_EQ(targets[1]["value"], 5);
    EXPECT_EQ(targets[2]["verdict"], "not measured");
    EXPECT_TRUE(targets[2]["value"].is_null());
}

TEST(ReportData, ARowThatFailedARunHasMissedItsTargets) {
    ResultFile results = sample_results();
    auto& rows = results.scenarios[0].rows;
    const AskedTarget& asked = results.scenarios[0].targets[1];
    ASSERT_EQ(judge_target(asked, rows)["verdict"], "met");
    rows[0].failed = 2;
    auto judged = judge_target(asked, rows);
    EXPECT_EQ(judged["verdict"], "missed");
    EXPECT_EQ(judged["value"], 5);
    EXPECT_EQ(judged["n"], 5);
    EXPECT_EQ(judged["failed"], 2);
    rows[0].runs.clear();
    judged = judge_target(asked, rows);
    EXPECT_EQ(judged["verdict"], "missed");
    EXPECT_TRUE(judged["value"].is_null());
}

TEST(ReportData, ATargetMayBeADifferenceAndItsPeerNeedNotMove) {
    ResultFile results = sample_results();
    auto& rows = results.scenarios[0].rows;
    rows.push_back({.label = "stay-thp", .kind = "stay", .runs = {{{"downtime_ms", 4}}}});
    AskedTarget asked{.target = {.metric = "downtime_ms",
                                 .ours = "godwit-precopy",
                                 .peers = {"stay-thp"},
                                 .bound = 2},
                      .difference = true};
    auto judged = judge_target(asked, rows);
    EXPECT_EQ(judged["value"], 1);
    EXPECT_EQ(judged["verdict"], "met");
    EXPECT_EQ(judged["peer"], "stay-thp");
    EXPECT_EQ(judged["asked"], "≤ 2 above");
    asked.target.bound = 0.5;
    EXPECT_EQ(judge_target(asked, rows)["verdict"], "missed");
    rows.back().runs.clear();
    EXPECT_EQ(judge_target(asked, rows)["verdict"], "not measured");
}

TEST(ReportData, ATargetMayBeBesideTheSlowest) {
    const ResultFile results = sample_results();
    AskedTarget asked = results.scenarios[0].targets[0];
    asked.target.kind = Bound::kAtMost;
    EXPECT_EQ(judge_target(asked, results.scenarios[0].rows)["peer"], "qemu-multifd");
    asked.slowest = true;
    const auto judged = judge_target(asked, results.scenarios[0].rows);
    EXPECT_EQ(judged["peer"], "qemu-precopy");
    EXPECT_DOUBLE_EQ(judged["value"], 12.0 / 32);
}

TEST(ReportData, AFailureOfAPeerIsNotOurs) {
    ResultFile results = sample_results();
    AskedTarget asked = results.scenarios[0].targets[0];
    asked.target.bound = 1.5;
    results.scenarios[0].rows[2].failed = 1;
    EXPECT_EQ(judge_target(asked, results.scenarios[0].rows)["verdict"], "met");
    EXPECT_EQ(judge_target(asked, results.scenarios[0].rows)["peer_n"], 5);
}

TEST(ReportData, OfNothingIsNull) {
    EXPECT_TRUE(stats_of({}).is_null());
    EXPECT_TRUE(versus({}, {1}).is_null());
    EXPECT_TRUE(versus({1}, {0}).is_null());
}

}  // namespace
}  // namespace godwit
