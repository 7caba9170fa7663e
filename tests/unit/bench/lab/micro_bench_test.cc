#include "bench/lab/micro_bench.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "bench/lab/scratch.h"

namespace godwit {
namespace {

using ::testing::HasSubstr;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr const char* kTold = R"({"context": {"num_cpus": 2}, "benchmarks": [
  {"name": "collect/4096", "family_index": 0, "repetitions": 1, "threads": 1, "iterations": 11,
   "real_time": 250.5, "cpu_time": 3.0, "time_unit": "us", "kvm_to_uffd": 0.25, "skims": 1.0}]})";

TEST(MicroBench, ACaseHasItsCountersAndItsTime) {
    const auto metrics = parse_micro_bench(kTold);
    ASSERT_TRUE(metrics.ok()) << metrics.status();
    EXPECT_THAT(*metrics, UnorderedElementsAre(Pair("kvm_to_uffd", 0.25), Pair("skims", 1),
                                               Pair("total_ms", 0.2505)));
}

TEST(MicroBench, WhatIsNotOneCaseIsAFailure) {
    for (const char* text :
         {"", "no JSON at all", "{}", R"({"benchmarks": []})", R"({"benchmarks": [{}, {}]})",
          R"({"benchmarks": [7]})", R"({"benchmarks": 7})"})
        EXPECT_EQ(parse_micro_bench(text).status().code(), absl::StatusCode::kFailedPrecondition)
            << text;
    const auto skipped = parse_micro_bench(
        R"({"benchmarks": [{"error_occurred": true, "error_message": "needs root"}]})");
    EXPECT_THAT(std::string(skipped.status().message()), HasSubstr("needs root"));
}

TEST(MicroBench, AProgramIsAskedForOneCase) {
    auto scratch = Scratch::create("/tmp");
    ASSERT_TRUE(scratch.ok()) << scratch.status();
    const auto make = [&](const char* name, const std::string& script) {
        const std::string path = scratch->path() + "/" + name;
        std::ofstream(path) << "#!/bin/sh\n" << script;
        std::filesystem::permissions(path, std::filesystem::perms::owner_all);
    };
    const auto run = [&](const char* program, const char* name) {
        return run_micro_bench(scratch->path(), {.program = program, .name = name},
                               std::chrono::seconds(60), -1);
    };
    make("bitmap_bench",
         "test \"$2\" = '--benchmark_filter=^scan/runs:1(/|$)' || exit 3\n"
         "echo '{\"benchmarks\": [{\"real_time\": 2, \"time_unit\": \"ms\"}]}'\n");
    const auto scanned = run("bitmap_bench", "scan/runs:1");
    ASSERT_TRUE(scanned.ok()) << scanned.status();
    EXPECT_THAT(*scanned, UnorderedElementsAre(Pair("total_ms", 2)));
    EXPECT_THAT(std::string(run("bitmap_bench", "other").status().message()),
                HasSubstr("exit code 3"));
    EXPECT_EQ(run("fault_bench", "random").status().code(), absl::StatusCode::kNotFound);
}

}  // namespace
}  // namespace godwit
