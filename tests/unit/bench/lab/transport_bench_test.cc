// The benchmark itself, on a guest that is small: that it measures, not what it measures.
#include <gmock/gmock.h>

#include <set>

#include "tests/unit/bench/lab/bench_program.h"

namespace godwit {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

using TransportBench = BenchProgram;

void expect_figures(const std::vector<json>& lines, const std::set<std::string>& engines,
                    const std::set<std::string>& keys) {
    ASSERT_EQ(lines.size(), 1 + engines.size());
    EXPECT_EQ(lines[0]["kind"], "setting");
    std::set<std::string> seen;
    for (size_t i = 1; i < lines.size(); ++i) {
        EXPECT_TRUE(lines[i]["ok"].get<bool>()) << lines[i];
        seen.insert(lines[i]["engine"].get<std::string>());
        for (const std::string& key : keys)
            EXPECT_TRUE(lines[i]["metrics"].contains(key)) << lines[i] << " has no " << key;
        EXPECT_GE(lines[i]["metrics"]["wire_bytes"], 32 << 20) << lines[i];
    }
    EXPECT_EQ(seen, engines);
}

TEST_F(TransportBench, MeasuresAFullGuestBesideAPlainCopyAndLeavesNothing) {
    expect_figures(
        lines_of(GODWIT_TRANSPORT_BENCH,
                 {"--case", "dense", "--engines", "godwit-precopy,qemu-multifd,copy", "--baseline",
                  "50ms"}),
        {"godwit-precopy", "qemu-multifd", "copy"},
        {"total_ms", "cpu_s", "cpu_user_s", "cpu_system_s", "host_busy_s", "wire_bytes"});
}

TEST_F(TransportBench, CountsWhatGoesOverALinkOfItsOwn) {
    const std::vector<json> lines =
        lines_of(GODWIT_TRANSPORT_BENCH,
                 {"--case", "redirty-random-1g", "--engines", "godwit-precopy,qemu-xbzrle",
                  "--baseline", "50ms", "--migrate-flags=--streams 1 --compress lz4"});
    expect_figures(lines, {"godwit-precopy", "qemu-xbzrle"}, {"total_ms", "link_bytes"});
    for (size_t i = 1; i < lines.size(); ++i)
        EXPECT_GE(lines[i]["metrics"]["link_bytes"], 32 << 20) << lines[i];
}

TEST_F(TransportBench, ACaseThatDoesNotExistIsAUsageError) {
    auto bench = start(GODWIT_TRANSPORT_BENCH, {"--case", "sparser"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    EXPECT_EQ(*bench->wait(Clock::system().now() + kLimit, -1), 2);
    EXPECT_THAT(bench->err(), HasSubstr("sparser"));
}

TEST_F(TransportBench, AnInterruptEndsItAndLeavesNothing) {
    auto bench = start(GODWIT_TRANSPORT_BENCH, {"--case", "text-1g", "--engines",
                                                "qemu-precopy-shared", "--baseline", "1000s"});
    ASSERT_TRUE(bench.ok()) << bench.status();
    interrupt(*bench);
}

}  // namespace
}  // namespace godwit
