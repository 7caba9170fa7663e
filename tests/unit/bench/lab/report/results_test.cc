#include "bench/lab/report/results.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;

TEST(Results, WarmUpsAreLeftOutAndWhatIsNotThereIsTold) {
    const ResultFile results = sample_results();
    ASSERT_EQ(results.scenarios.size(), 1U);
    const auto& rows = results.scenarios[0].rows;
    ASSERT_EQ(rows.size(), 5U);
    EXPECT_EQ(rows[0].runs.size(), 5U);
    EXPECT_EQ(rows[0].kind, "godwit");
    EXPECT_TRUE(rows[3].missing);
    EXPECT_EQ(rows[3].failed, 0);
    EXPECT_FALSE(rows[4].missing);
    EXPECT_EQ(rows[4].failed, 1);
    EXPECT_EQ(rows[4].last_error, "it broke");
    EXPECT_EQ(results.scenarios[0].targets.size(), 3U);
}

TEST(Results, AScenarioIsWrittenAndReadBackTheSame) {
    Scenario scenario{.name = "s", .about = "a"};
    scenario.link.bytes_per_s = 5;
    scenario.targets.push_back(
        {.target =
             {.metric = "cpu_s", .ours = "x", .peers = {"y"}, .kind = Bound::kAtLeast, .bound = 2},
         .issue = "i"});
    scenario.targets.push_back(
        {.target = {.metric = "cpu_s", .ours = "x", .peers = {"y"}}, .difference = true});
    const auto read = parse_results(
        "{\"kind\":\"setting\"}\n" + scenario_line(scenario, {"x", "y"}, "tcg").dump() + "\n", "f");
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_EQ(read->scenarios[0].setting["accel"], "tcg");
    EXPECT_EQ(read->scenarios[0].rows[1].label, "y");
    const Target& target = read->scenarios[0].targets[0].target;
    EXPECT_EQ(target.kind, Bound::kAtLeast);
    EXPECT_EQ(target.bound, 2);
    EXPECT_EQ(target.peers, std::vector<std::string>{"y"});
    EXPECT_FALSE(read->scenarios[0].targets[0].difference);
    EXPECT_TRUE(read->scenarios[0].targets[1].difference);
}

TEST(Results, ALastLineThatIsNotWholeIsLeftOut) {
    const auto results = parse_results(sample_text() + R"({"kind":"run","scen)", "f");
    ASSERT_TRUE(results.ok()) << results.status();
    EXPECT_EQ(results->scenarios[0].rows[0].runs.size(), 5U);
}

TEST(Results, WhatIsNoResultFileIsNamedWithItsLine) {
    EXPECT_THAT(std::string(parse_results("{}\nhello\n{}\n", "f").status().message()),
                HasSubstr("f:2:"));
    EXPECT_FALSE(parse_results("{}\n", "f").ok());
    EXPECT_FALSE(parse_results("{\"kind\":\"setting\"}\n{\"kind\":\"run\",\"metrics\":5,\"ok\":"
                               "true}\n",
                               "f")
                     .ok());
    EXPECT_TRUE(absl::IsNotFound(read_results("/nonexistent/results").status()));
}

}  // namespace
}  // namespace godwit
