#include "tests/unit/bench/lab/bench_program.h"

#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>

namespace godwit {

namespace fs = std::filesystem;
using nlohmann::json;

void BenchProgram::SetUp() {
    if (::geteuid() != 0) GTEST_SKIP() << "mounting tmpfs for guest RAM needs root";
    scratch_ = "/tmp/gw-bench-XXXXXX";
    ASSERT_NE(::mkdtemp(scratch_.data()), nullptr);
}

void BenchProgram::TearDown() {
    if (scratch_.empty()) return;
    EXPECT_TRUE(fs::is_empty(scratch_)) << "it left something behind";
    std::error_code error;
    fs::remove(scratch_, error);
}

absl::StatusOr<Child> BenchProgram::start(const std::string& program,
                                          const std::vector<std::string>& words) const {
    std::vector<std::string> argv{
        program, "--guest-memory", "128MiB", "--ws",      "32M",   "--json", "-", "--repeats",
        "1",     "--warm-up",      "0",      "--scratch", scratch_};
    argv.insert(argv.end(), words.begin(), words.end());
    return Child::start(argv);
}

std::vector<json> BenchProgram::lines_of(const std::string& program,
                                         const std::vector<std::string>& words) const {
    auto bench = start(program, words);
    EXPECT_TRUE(bench.ok()) << bench.status();
    if (!bench.ok()) return {};
    const auto status = bench->wait(Clock::system().now() + kLimit, -1);
    EXPECT_TRUE(status.ok() && *status == 0) << status.status() << bench->err();
    std::vector<json> lines;
    std::istringstream in(bench->out());
    for (std::string line; std::getline(in, line);)
        lines.push_back(json::parse(line, nullptr, false));
    return lines;
}

bool BenchProgram::has_guest() const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(scratch_, error))
        if (fs::exists(entry.path() / "ram-thp" / "source-ram", error)) return true;
    return false;
}

void BenchProgram::interrupt(Child& bench) const {
    const MonotonicTime deadline = Clock::system().now() + kLimit;
    while (!has_guest() && Clock::system().now() < deadline)
        ASSERT_FALSE(bench.wait(Clock::system().now() + std::chrono::milliseconds(5), -1).ok())
            << bench.err();
    ASSERT_TRUE(has_guest());
    bench.end(SIGINT, kLimit);
    EXPECT_EQ(*bench.wait(Clock::system().now(), -1), 130) << bench.err();
}

}  // namespace godwit
