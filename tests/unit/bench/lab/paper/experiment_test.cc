#include "bench/lab/paper/experiment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>

namespace godwit {
namespace {

using ::testing::HasSubstr;

constexpr const char* kFile = R"(
figures:
  - name: total
    title: T
    x: {label: r, values: [0.1, 2]}
    y: {label: s, log: true}
    series:
      - {label: a, metric: total_s, run: "--writes {x*1000}"}
      - label: b
        metric: total_s
        times: 1000
        model: geometric-precopy
        input: {memory_bytes: 1e9, page_rate: 1e8, dirty_pages_per_s: "{x}"}
)";

TEST(Experiment, ReadsFiguresWithRunsAndModels) {
    const auto figures = parse_experiment(kFile, "f");
    ASSERT_TRUE(figures.ok()) << figures.status();
    ASSERT_EQ(figures->size(), 1U);
    const Figure& figure = figures->front();
    EXPECT_EQ(figure.values, (std::vector<double>{0.1, 2}));
    EXPECT_TRUE(figure.y.logarithmic);
    EXPECT_FALSE(figure.x.logarithmic);
    ASSERT_EQ(figure.series.size(), 2U);
    EXPECT_EQ(figure.series[0].run, "--writes {x*1000}");
    EXPECT_EQ(figure.series[1].input.at("dirty_pages_per_s"), "{x}");
}

TEST(Experiment, SaysWhereWhatIsWrong) {
    const auto complaint = [](std::string text, const std::string& what, const std::string& by) {
        const size_t at = text.find(what);
        text.replace(at, what.size(), by);
        return std::string(parse_experiment(text, "f").status().message());
    };
    EXPECT_THAT(complaint(kFile, "[0.1, 2]", "[0.1, two]"), HasSubstr("each must be a number"));
    EXPECT_THAT(complaint(kFile, "[0.1, 2]", "[]"), HasSubstr("1 to 200"));
    EXPECT_THAT(complaint(kFile, "name: total", "name: ../total"), HasSubstr("figures[0].name"));
    EXPECT_THAT(complaint(kFile, "times: 1000", "run: x"), HasSubstr("either"));
    EXPECT_THAT(complaint(kFile, "times: 1000", "times: many"), HasSubstr("is no number"));
    EXPECT_THAT(complaint(kFile, "title", "titel"), HasSubstr("titel"));
    EXPECT_THAT(complaint(kFile, "figures:", "figures: ["), HasSubstr("f:"));
}

TEST(Experiment, FillsNumbersIn) {
    EXPECT_EQ(*fill_in("a {x} b", 0.5), "a 0.5 b");
    EXPECT_EQ(*fill_in("{x*1000}{x/2}s", 3), "30001.5s");
    for (const char* bad : {"{y}", "{x", "{}", "{x*}", "{x/0}", "{x+1}", "{xx}"})
        EXPECT_TRUE(absl::IsInvalidArgument(fill_in(bad, 1).status())) << bad;
}

TEST(Experiment, AsksModelsForTheirMetrics) {
    ExperimentSeries series{.label = "s",
                            .metric = "total_s",
                            .model = "geometric-serial",
                            .input = {{"memory_bytes", "1e9"}, {"page_rate", "1e8"}, {"m", "{x}"}}};
    EXPECT_NEAR(*model_metric(series, 3), 30, 1e-9);
    series.metric = "weight";
    EXPECT_THAT(std::string(model_metric(series, 3).status().message()), HasSubstr("no metric"));
    series.metric = "total_s";
    series.input["colour"] = "1";
    EXPECT_THAT(std::string(model_metric(series, 3).status().message()), HasSubstr("no input"));
    series.model = "astrology";
    EXPECT_THAT(std::string(model_metric(series, 3).status().message()), HasSubstr("no model"));
}

TEST(Experiment, AWorkingSetBoundsWhatIsLeft) {
    const ExperimentSeries series{.label = "s",
                                  .metric = "downtime_s",
                                  .model = "working-set",
                                  .input = {{"touched_pages", "100000"},
                                            {"set_pages", "10000"},
                                            {"page_rate", "4.096e8"},
                                            {"writes_per_s", "1e7"}}};
    EXPECT_NEAR(*model_metric(series, 0), 0.1, 0.001);
}

TEST(Experiment, TheCsvHasAColumnForEachSeries) {
    const Figure figure{.values = {1, 2}};
    EXPECT_EQ(figure_csv(figure, {{.label = "a", .points = {{1, 10}, {2, 20}}},
                                  {.label = "b", .points = {{1, 0.5}}}}),
              "x,\"a\",\"b\"\n1,10,0.5\n2,20,\n");
}

// Those of papers/.
TEST(Experiment, EveryPaperHasOneThatCanBeRead) {
    size_t found = 0;
    for (const auto& entry : std::filesystem::directory_iterator(GODWIT_PAPERS)) {
        std::ifstream in(entry.path() / "experiment.yaml");
        if (!in) continue;
        const std::string text{std::istreambuf_iterator<char>(in), {}};
        const auto figures = parse_experiment(text, entry.path().string());
        ASSERT_TRUE(figures.ok()) << figures.status();
        ++found;
        for (const Figure& figure : *figures)
            for (const ExperimentSeries& series : figure.series) {
                EXPECT_TRUE(fill_in(series.run, 1).ok()) << series.run;
                if (!series.model.empty()) {
                    EXPECT_TRUE(model_metric(series, figure.values[0]).ok())
                        << model_metric(series, figure.values[0]).status();
                }
            }
    }
    EXPECT_EQ(found, 6U);
}

}  // namespace
}  // namespace godwit
