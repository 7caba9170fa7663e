// The benchmark itself, on a guest that is small: that it measures, not what it measures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "bench/lab/child.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;
using ::testing::HasSubstr;

constexpr Duration kLimit = std::chrono::seconds(100);

std::vector<json> lines_of(const std::string& text) {
    std::vector<json> lines;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);)
        lines.push_back(json::parse(line, nullptr, false));
    return lines;
}

class PostcopyBench : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "mounting tmpfs for guest RAM needs root";
        scratch_ = "/tmp/gw-bench-XXXXXX";
        ASSERT_NE(::mkdtemp(scratch_.data()), nullptr);
    }
    void TearDown() override {
        if (scratch_.empty()) return;
        EXPECT_TRUE(fs::is_empty(scratch_)) << "it left something behind";
        std::error_code error;
        fs::remove(scratch_, error);
    }
    [[nodiscard]] std::vector<std::string> small(const std::string& engines,
                                                 const std::string& baseline = "100ms") const {
        return {GODWIT_POSTCOPY_BENCH,
                "--engines",
                engines,
                "--guest-memory",
                "128MiB",
                "--ws",
                "32M",
                "--json",
                "-",
                "--repeats",
                "1",
                "--warm-up",
                "0",
                "--baseline",
                baseline,
                "--scratch",
                scratch_};
    }
    // A guest's RAM file, once there is one.
    [[nodiscard]] bool has_guest() const {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(scratch_, error))
            if (fs::exists(entry.path() / "ram-thp" / "source-ram", error)) return true;
        return false;
    }
    std::string scratch_;
};

TEST_F(PostcopyBench, MeasuresTheFloorAndAPostCopyOfQemuAndLeavesNothing) {
    auto bench = Child::start(small("floor,qemu-postcopy"));
    ASSERT_TRUE(bench.ok()) << bench.status();
    const auto status = bench->wait(Clock::system().now() + kLimit, -1);
    ASSERT_TRUE(status.ok()) << status.status();
    ASSERT_EQ(*status, 0) << bench->err();
    const std::vector<json> lines = lines_of(bench->out());
    ASSERT_EQ(lines.size(), 3U) << bench->out();
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
    auto bench = Child::start(small("qemu-teleport"));
    ASSERT_TRUE(bench.ok()) << bench.status();
    EXPECT_EQ(*bench->wait(Clock::system().now() + kLimit, -1), 2);
    EXPECT_THAT(bench->err(), HasSubstr("qemu-teleport"));
}

TEST_F(PostcopyBench, AnInterruptEndsItAndLeavesNothing) {
    // It watches the guest for so long that the signal comes in the middle.
    auto bench = Child::start(small("qemu-postcopy-shared", "1000s"));
    ASSERT_TRUE(bench.ok()) << bench.status();
    const MonotonicTime deadline = Clock::system().now() + kLimit;
    while (!has_guest() && Clock::system().now() < deadline)
        ASSERT_FALSE(bench->wait(Clock::system().now() + std::chrono::milliseconds(5), -1).ok())
            << bench->err();
    ASSERT_TRUE(has_guest());
    bench->end(SIGINT, kLimit);
    EXPECT_EQ(*bench->wait(Clock::system().now(), -1), 130) << bench->err();
}

}  // namespace
}  // namespace godwit
