#include "bench/lab/prediction/score.h"

#include <gtest/gtest.h>

#include "bench/lab/prediction/note.h"

namespace godwit {
namespace {

using nlohmann::json;

json interval(double mid) { return {{"low", mid / 2}, {"mid", mid}, {"high", mid * 2}}; }

json line_of(const std::string& strategy, const std::string& otherwise) {
    return {{"kind", "run"},
            {"ok", true},
            {"cell", "01 " + strategy},
            {"strategy", strategy},
            {"otherwise", otherwise},
            {"held_out", false},
            {"plan",
             {{"downtime_limit_ms", 120},
              {"measured",
               {{"touched_bytes", 100e6},
                {"windows", {{{"window_ms", 1000.0}, {"dirty_pages", 1000}}}},
                {"costs", {{"pause_ms", 20.0}, {"setup_ms", 200.0}}}}},
              {"rows",
               {{{"strategy", strategy},
                 {"total_ms", interval(1000)},
                 {"downtime_ms", interval(100)},
                 {"converges", true},
                 {"page_rate_bytes_per_s", 100e6}}}}}},
            {"report",
             {{"total_ms", 1100.0},
              {"downtime_ms", 130.0},
              {"outcome", "done"},
              {"switch_reason", "expected downtime 90.0 ms, limit 120.0 ms"}}}};
}

CellOutcome outcome(double foretold_ms, double came_ms, bool foretold, bool came) {
    return {.name = "c",
            .strategy = "precopy",
            .has_rounds = true,
            .actual = {.total_ms = came_ms, .downtime_ms = 200, .converged = came},
            .working_set = {.total_ms = foretold_ms, .downtime_ms = 210, .converged = foretold}};
}

TEST(PredictionScore, ReadsWhatWasForetoldAndWhatCame) {
    const auto read = outcome_of(line_of("precopy", "stop-and-copy"));
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_TRUE(read->has_rounds);
    EXPECT_TRUE(read->actual.converged);
    EXPECT_DOUBLE_EQ(read->working_set.total_ms, 1000);
    EXPECT_NEAR(total_error(read->working_set, read->actual), 100.0 / 1100, 1e-12);
    EXPECT_NEAR(*downtime_error(read->working_set, read->actual), 30.0 / 13, 1e-12);
}

TEST(PredictionScore, TheGeometricModelGetsThePlansOwnMeasurements) {
    const auto read = outcome_of(line_of("stop-and-copy", ""));
    ASSERT_TRUE(read.ok()) << read.status();
    ASSERT_TRUE(read->geometric);
    // 100 MB at 100 MB/s, 20 ms of pause, 200 ms beside.
    EXPECT_NEAR(read->geometric->total_ms, 1220, 1e-6);
    EXPECT_NEAR(*read->geometric->downtime_ms, 1020, 1e-6);
}

TEST(PredictionScore, ACopyInThePauseComesOnTopOfWhatAFailureTakes) {
    json line = line_of("precopy", "stop-and-copy");
    line["plan"]["rows"][0]["converges"] = false;
    line["report"]["switch_reason"] = "no convergence in 30 rounds: expected downtime 1 ms";
    const auto read = outcome_of(line);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_FALSE(read->actual.converged);
    EXPECT_FALSE(read->working_set.converged);
    EXPECT_DOUBLE_EQ(read->working_set.total_ms, 1100);
}

TEST(PredictionScore, AMigrationThatGaveUpHasNoDowntime) {
    json line = line_of("precopy", "fail");
    line["report"]["outcome"] = "failed";
    const auto read = outcome_of(line);
    ASSERT_TRUE(read.ok()) << read.status();
    EXPECT_FALSE(read->actual.converged);
    EXPECT_FALSE(downtime_error(read->working_set, read->actual));
}

TEST(PredictionScore, SaysWhatIsMissingInALine) {
    json line = line_of("precopy", "fail");
    line["plan"].erase("rows");
    EXPECT_TRUE(absl::IsInvalidArgument(outcome_of(line).status()));
    json other = line_of("precopy", "fail");
    other["strategy"] = "hybrid";
    EXPECT_TRUE(absl::IsInvalidArgument(outcome_of(other).status()));
}

TEST(PredictionScore, CountsWhatWillNotConvergeAsTheFinding) {
    const std::vector<CellOutcome> outcomes{
        outcome(100, 100, false, false), outcome(100, 100, false, false),
        outcome(100, 100, false, true), outcome(100, 100, true, false),
        outcome(100, 100, true, true)};
    const PredictionScore score = score_of(outcomes, Foreteller::kWorkingSet);
    EXPECT_EQ(score.runs, 5U);
    EXPECT_DOUBLE_EQ(*score.precision(), 2.0 / 3);
    EXPECT_DOUBLE_EQ(*score.recall(), 2.0 / 3);
    EXPECT_EQ(score.long_downtimes, 5U);
    EXPECT_DOUBLE_EQ(*score.downtime_p90, 0.5);
    EXPECT_EQ(score_of(outcomes, Foreteller::kGeometric).runs, 0U);
    EXPECT_FALSE(score_of(outcomes, Foreteller::kGeometric).precision());
}

TEST(PredictionScore, TheTableHasARowForEachPartAndModel) {
    GridResults results;
    for (const double came : {90.0, 100.0, 110.0}) {
        results.outcomes.push_back(outcome(100, came, true, true));
        results.outcomes.back().held_out = came == 110;
    }
    const std::string table = score_table(results);
    EXPECT_NE(table.find("| tuning: working set | 2 |"), std::string::npos) << table;
    EXPECT_NE(table.find("| held out: working set | 1 | 9.1 % |"), std::string::npos) << table;
    EXPECT_NE(table.find("| all: geometric | 0 | - |"), std::string::npos) << table;
}

}  // namespace
}  // namespace godwit
