#include "bench/lab/run/result_dir.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "bench/lab/report/report_data.h"
#include "bench/lab/run/run_options.h"
#include "bench/lab/scratch.h"
#include "tests/unit/bench/lab/report/sample_results.h"

namespace godwit {
namespace {

TEST(ResultDir, AnInterruptedRunGoesOnWhereItsLastWholeLineEnds) {
    const auto scratch = Scratch::create("/tmp");
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    const std::string path = scratch->path() + "/results";
    {
        auto lines = create_results(path);
        ASSERT_TRUE(lines.ok()) << lines.status();
    }
    EXPECT_TRUE(absl::IsAlreadyExists(create_results(path).status()));
    std::ofstream(path + "/runs.jsonl", std::ios::app)
        << R"({"kind":"setting","arguments":{"seed":3}})"
        << "\n"
        << run_line("x", -1, 1) << run_line("x", 0, 1) << R"({"kind":"run","scenario":"den)";
    const auto interrupted = read_interrupted(path);
    ASSERT_TRUE(interrupted.ok()) << interrupted.status();
    EXPECT_EQ(interrupted->done, (DoneRuns{{"dense", "x", 0}}));
    EXPECT_EQ(interrupted->setting["arguments"]["seed"], 3);
    {
        auto lines = continue_results(path);
        ASSERT_TRUE(lines.ok()) << lines.status();
        lines->write(nlohmann::json::parse(run_line("x", 1, 2)));
    }
    const auto results = read_results(path);
    ASSERT_TRUE(results.ok()) << results.status();
    EXPECT_EQ(results->scenarios[0].rows[0].runs.size(), 2U);
}

TEST(ResultDir, WritesEveryFormThatItCan) {
    const auto scratch = Scratch::create("/tmp");
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    std::string complaint;
    const auto paths =
        write_reports(scratch->path(), report_data(sample_results()), "/nonexistent", complaint);
    ASSERT_TRUE(paths.ok()) << paths.status();
    EXPECT_EQ(paths->size(), 3U);
    EXPECT_FALSE(complaint.empty());
}

TEST(ResultDir, WhatIsNotThereCannotBeResumed) {
    EXPECT_TRUE(absl::IsNotFound(read_interrupted("/nonexistent").status()));
    EXPECT_TRUE(absl::IsNotFound(continue_results("/nonexistent").status()));
}

TEST(ResultDir, OnlyWhatIsTheSameIsGoneOnWith) {
    const nlohmann::json first{{"git", "a"}, {"qemu", "7.2"}, {"kernel", "6.1"}, {"load", 1}};
    nlohmann::json now = first;
    now["load"] = 5;
    EXPECT_TRUE(check_same_setting(first, now).ok());
    for (const char* key : {"git", "qemu", "kernel"}) {
        now = first;
        now[key] = "other";
        const absl::Status status = check_same_setting(first, now);
        EXPECT_TRUE(absl::IsFailedPrecondition(status)) << key;
        EXPECT_NE(status.message().find("other"), std::string::npos);
    }
}

TEST(RunOptions, WhatWasAskedForIsWrittenAndReadBack) {
    RunOptions options;
    options.names = {"sparse"};
    options.filter = "godwit";
    options.lab.repeats = 9;
    options.lab.seed = 4;
    options.lab.idle_percent = 60;
    options.qemus = {"/q"};
    options.builds = {"a=/b"};
    RunOptions read;
    ASSERT_TRUE(apply_arguments(arguments_json(options), read).ok());
    EXPECT_EQ(arguments_json(read), arguments_json(options));
    EXPECT_EQ(read.lab.idle_percent, 60);
    EXPECT_FALSE(apply_arguments(nlohmann::json::object(), read).ok());
}

TEST(RunOptions, ABuildIsALabelAndADirectory) {
    EXPECT_EQ(parse_build("main=/a/b=c")->bin_dir, "/a/b=c");
    for (const char* text : {"", "main", "=x", "main="}) EXPECT_FALSE(parse_build(text).ok());
}

}  // namespace
}  // namespace godwit
