// The benchmark itself, on a guest that is small: that it measures, not what it measures.
#include <gmock/gmock.h>

#include <set>

#include "tests/unit/bench/lab/bench_program.h"

namespace godwit {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

using PostcopyBench = BenchProgram;

TEST_F(PostcopyBench, MeasuresTheFloorAndAPostCopyOfQemuAndLeavesNothing) {
    const std::vector<json> lines = lines_of(
        GODWIT_POSTCOPY_BENCH, {"--engines", "floor,qemu-postcopy", "--baseline", "100ms"});
    ASSERT_EQ(lines.size(), 3U);
    for (const char* key : {"git", "kernel", "qemu", "load", "seed", "accel", "append"})
        EXPECT_TRUE(lines[0].contains(key)) << key;
    std::set<std::string> engines;
    for (const json& line : {lines[1], lines[2]}) {
        const std::string engine = line["engine"];
        engines.insert(engine);
        EXPECT_TRUE(line["ok"].get<bool>()) << line;
        for (const char* key : {"total_ms", "downtime_ms", "blackout_ms", "stall_ms",
                                "longest_stall_ms", "lost_ms", "live_stall_ms"})
            EXPECT_TRUE(line["metrics"].contains(key)) << engine << " has no " << key;
        EXPECT_GT(line["metrics"]["downtime_ms"], 0) << line;
        for (const char* key : {"faults", "drain_ms", "wire_bytes"})
            EXPECT_EQ(line["metrics"].contains(key), engine == "qemu-postcopy") << key;
    }
    EXPECT_EQ(engines, (std::set<std::string>{"floor", "qemu-postcopy"}));
}

TEST_F(PostcopyBench, AnEngineThatDoesNotExistIsAUsageError) {
    auto bench = start(GODWIT_POSTCOPY_BENCH, {"--engines", "qemu-teleport"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    EXPECT_EQ(*bench->wait(Clock::system().now() + kLimit, -1), 2);
    EXPECT_THAT(bench->err(), HasSubstr("qemu-teleport"));
}

TEST_F(PostcopyBench, AnInterruptEndsItAndLeavesNothing) {
    // It watches the guest for so long that the signal comes in the middle.
    auto bench =
        start(GODWIT_POSTCOPY_BENCH, {"--engines", "qemu-postcopy-shared", "--baseline", "1000s"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    interrupt(*bench);
}

}  // namespace
}  // namespace godwit
