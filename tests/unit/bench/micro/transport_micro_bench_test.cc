// The benchmark itself, on sets that are small: that it measures, not what it measures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>
#include <set>

#include "bench/lab/child.h"

namespace godwit {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr Duration kLimit = std::chrono::seconds(100);

TEST(TransportMicroBench, MeasuresEveryStepBesideItsLimit) {
    auto bench = Child::start({GODWIT_TRANSPORT_MICRO_BENCH, "--set=4MiB",
                               "--benchmark_min_time=0.001", "--benchmark_format=json"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    const auto status = bench->wait(Clock::system().now() + kLimit, -1);
    ASSERT_TRUE(status.ok()) << status.status();
    ASSERT_EQ(*status, 0) << bench->err();
    const json report = json::parse(bench->out(), nullptr, false);
    std::set<std::string> families;
    for (const json& one : report["benchmarks"]) {
        const std::string name = one["name"];
        families.insert(name.substr(0, name.find('/')));
        const bool needs_root = name.starts_with("page_pass") || name.starts_with("place_chunk") ||
                                name.starts_with("receive_chunk");
        if (needs_root && ::geteuid() != 0) continue;
        EXPECT_FALSE(one.contains("error_message")) << one;
        EXPECT_GT(one.value("ratio", 0.0), 0) << one;
        EXPECT_GT(one.value("limit_ns_per_B", 0.0), 0) << one;
    }
    EXPECT_EQ(families,
              (std::set<std::string>{"acceleration", "apply_deltas", "copy_page_only", "frame",
                                     "govern", "hash_pages", "make_deltas", "masks", "pack",
                                     "page_pass", "place_chunk", "receive_chunk", "ring_round_trip",
                                     "unpack", "zero_test", "zstd_level"}));
}

TEST(TransportMicroBench, ASetThatIsTooSmallIsAUsageError) {
    auto bench = Child::start({GODWIT_TRANSPORT_MICRO_BENCH, "--set=1MiB"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    EXPECT_EQ(*bench->wait(Clock::system().now() + kLimit, -1), 2);
    EXPECT_THAT(bench->err(), HasSubstr("4 MiB"));
}

}  // namespace
}  // namespace godwit
