// The lab itself, on the guests of the set smoke: that it measures, not what it measures.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>

#include "bench/lab/child.h"
#include "bench/lab/report/results.h"
#include "bench/lab/scratch.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

constexpr Duration kLimit = std::chrono::seconds(110);

class GodwitLab : public ::testing::Test {
  protected:
    void SetUp() override {
        if (::geteuid() != 0) GTEST_SKIP() << "mounting tmpfs for guest RAM needs root";
        auto scratch = Scratch::create("/tmp");
        ASSERT_TRUE(scratch.ok()) << scratch.status();
        scratch_.emplace(*std::move(scratch));
        fs::create_directory(meanwhile());
    }
    void TearDown() override {
        if (!scratch_) return;
        EXPECT_TRUE(fs::is_empty(meanwhile())) << "it left something behind";
    }
    [[nodiscard]] std::string meanwhile() const { return scratch_->path() + "/s"; }
    [[nodiscard]] std::string results() const { return scratch_->path() + "/results"; }
    [[nodiscard]] absl::StatusOr<Child> start(const std::vector<std::string>& words) const {
        std::vector<std::string> argv{GODWIT_LAB, "--scratch", meanwhile()};
        argv.insert(argv.end(), words.begin(), words.end());
        return Child::start(argv);
    }

  private:
    std::optional<Scratch> scratch_;
};

TEST_F(GodwitLab, RunsTheSmokeSetWritesItsReportsAndLeavesNothing) {
    auto lab = start({"smoke", "--warm-up", "0", "--repeats", "1", "--out", results()});
    ASSERT_TRUE(lab.ok()) << lab.status();
    const auto status = lab->wait(Clock::system().now() + kLimit, -1);
    ASSERT_TRUE(status.ok() && *status == 0) << status.status() << lab->err();
    const auto read = read_results(results());
    ASSERT_TRUE(read.ok()) << read.status();
    for (const ScenarioResults& scenario : read->scenarios)
        for (const RowResults& row : scenario.rows) {
            // Where there is no libvirt, its row is skipped.
            if (row.kind == "libvirt" && row.missing) continue;
            ASSERT_EQ(row.runs.size(), 1U) << row.label << ": " << row.last_error;
            std::set<std::string> wanted{"before_ticks_per_ms"};
            if (row.kind == "micro") wanted = {"total_ms", "ms_per_GiB"};
            if (row.kind != "stay" && row.kind != "micro")
                wanted.insert({"total_ms", "downtime_ms", "cpu_s", "peak_memory_bytes"});
            // Its guest is idle: of its pauses little is known.
            if (scenario.name == "smoke-link") {
                wanted.insert("link_bytes");
                EXPECT_FALSE(row.runs[0].contains("stall_ms")) << row.label;
            } else if (row.kind != "stay" && row.kind != "micro") {
                wanted.insert({"blackout_ms", "stall_ms", "during_ticks_per_ms"});
            }
            for (const std::string& metric : wanted)
                EXPECT_TRUE(row.runs[0].contains(metric)) << row.label << " has no " << metric;
        }
    for (const char* name : {"report.json", "report.md", "report.csv"})
        EXPECT_TRUE(fs::exists(results() + "/" + name)) << name;
}

TEST_F(GodwitLab, AnInterruptedRunCanBeResumed) {
    auto lab = start({"smoke-loopback", "--filter", "floor|stay", "--warm-up", "0", "--repeats",
                      "2", "--out", results()});
    ASSERT_TRUE(lab.ok()) << lab.status();
    const MonotonicTime deadline = Clock::system().now() + kLimit;
    const auto runs = [&] {
        std::ifstream in(results() + "/runs.jsonl");
        int count = 0;
        for (std::string line; std::getline(in, line);)
            count += line.find("\"kind\":\"run\"") != std::string::npos ? 1 : 0;
        return count;
    };
    while (runs() == 0 && Clock::system().now() < deadline)
        ASSERT_FALSE(lab->wait(Clock::system().now() + std::chrono::milliseconds(5), -1).ok())
            << lab->err();
    lab->end(SIGINT, kLimit);
    EXPECT_EQ(*lab->wait(Clock::system().now(), -1), 130) << lab->err();
    EXPECT_THAT(lab->err(), HasSubstr("--resume"));
    EXPECT_LT(runs(), 4);

    auto again = start({"--resume", results()});
    ASSERT_TRUE(again.ok()) << again.status();
    const auto status = again->wait(Clock::system().now() + kLimit, -1);
    EXPECT_TRUE(status.ok() && *status == 0) << again->err();
    EXPECT_EQ(runs(), 4);
    std::ifstream in(results() + "/runs.jsonl");
    for (std::string text; std::getline(in, text);) {
        const auto line = nlohmann::json::parse(text);
        if (line["kind"] != "run") continue;
        EXPECT_EQ(line["seed"], 1 + line["repeat"].get<int>());
    }
}

// RAM files of guests below a directory.
int guests_below(const std::string& directory) {
    int count = 0;
    std::error_code error;
    for (fs::recursive_directory_iterator entry(directory, error), end; entry != end && !error;
         entry.increment(error))
        count += entry->path().string().ends_with("-ram0") ? 1 : 0;
    return count;
}

// Processes that were given it, or something below it, as an argument.
std::vector<std::string> processes_of(const std::string& directory) {
    std::vector<std::string> found;
    std::error_code error;
    for (const auto& entry : fs::directory_iterator("/proc", error)) {
        std::ifstream in(entry.path() / "cmdline");
        std::string words{std::istreambuf_iterator<char>(in), {}};
        std::replace(words.begin(), words.end(), '\0', ' ');
        if (words.find(directory) != std::string::npos) found.push_back(words);
    }
    return found;
}

TEST_F(GodwitLab, InterruptedWhileGodwitMovesAGuestOverALongCableItLeavesNothing) {
    auto lab = start({"smoke-link", "--filter", "godwit", "--warm-up", "0", "--repeats", "50",
                      "--out", results()});
    ASSERT_TRUE(lab.ok()) << lab.status();
    const MonotonicTime deadline = Clock::system().now() + kLimit;
    // One here and one there.
    while (guests_below(meanwhile()) < 2 && Clock::system().now() < deadline)
        ASSERT_FALSE(lab->wait(Clock::system().now() + std::chrono::milliseconds(1), -1).ok())
            << lab->err();
    EXPECT_THAT(processes_of(meanwhile()), ::testing::Contains(HasSubstr("godwitd")));
    lab->end(SIGINT, kLimit);
    EXPECT_EQ(*lab->wait(Clock::system().now(), -1), 130) << lab->err();

    EXPECT_THAT(processes_of(meanwhile()), ::testing::IsEmpty());
    std::ifstream in("/proc/self/mounts");
    EXPECT_THAT(std::string(std::istreambuf_iterator<char>(in), {}),
                ::testing::Not(HasSubstr(meanwhile())));
}

TEST_F(GodwitLab, ResultsOfAnotherRevisionAreNotGoneOnWith) {
    fs::create_directory(results());
    const std::string first =
        R"({"kind":"setting","git":"another","arguments":{"names":["smoke-micro"],"filter":"",)"
        R"("repeats":1,"warm_up":0,"accel":"auto","seed":1,"qemus":[],"builds":[],"wait_idle":0,)"
        R"("scenarios":")" GODWIT_SCENARIOS "\"}}\n";
    std::ofstream(results() + "/runs.jsonl") << first;
    auto lab = start({"--resume", results()});
    ASSERT_TRUE(lab.ok()) << lab.status();
    EXPECT_EQ(*lab->wait(Clock::system().now() + kLimit, -1), 2) << lab->err();
    EXPECT_THAT(lab->err(), HasSubstr("another"));
    std::ifstream in(results() + "/runs.jsonl");
    EXPECT_EQ(std::string(std::istreambuf_iterator<char>(in), {}), first);
}

TEST_F(GodwitLab, SaysWhatThereIsAndWhatWouldRun) {
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"--list"}, {"smoke", "--dry-run"}, {"--list", "--json"}}) {
        auto lab = start(words);
        ASSERT_TRUE(lab.ok()) << lab.status();
        EXPECT_EQ(*lab->wait(Clock::system().now() + kLimit, -1), 0) << lab->err();
        EXPECT_THAT(lab->out(), HasSubstr("smoke-link"));
    }
}

TEST_F(GodwitLab, AScenarioThatDoesNotExistIsAUsageError) {
    auto lab = start({"sparser"});
    ASSERT_TRUE(lab.ok()) << lab.status();
    EXPECT_EQ(*lab->wait(Clock::system().now() + kLimit, -1), 2);
    EXPECT_THAT(lab->err(), HasSubstr("sparser"));
}

TEST_F(GodwitLab, ComparesARunWithItselfAndFindsNothing) {
    auto lab = start({"smoke-loopback", "--filter", "stay", "--warm-up", "0", "--repeats", "1",
                      "--out", results()});
    ASSERT_TRUE(lab.ok()) << lab.status();
    ASSERT_EQ(*lab->wait(Clock::system().now() + kLimit, -1), 0) << lab->err();
    auto compare = Child::start({GODWIT_LAB, "compare", results(), results(), "--json"});
    ASSERT_TRUE(compare.ok()) << compare.status();
    EXPECT_EQ(*compare->wait(Clock::system().now() + kLimit, -1), 0) << compare->err();
    EXPECT_THAT(compare->out(), HasSubstr("\"same\""));
}

}  // namespace
}  // namespace godwit
