// The soak itself, shortly: with real agents and guests.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <filesystem>

#include "tests/harness/command.h"

namespace godwit::testing {
namespace {

namespace fs = std::filesystem;

constexpr Duration kLimit = std::chrono::minutes(4);

class SoakRun : public ::testing::Test {
  protected:
    SoakRun() {
        std::string pattern = "/tmp/gw-XXXXXX";  // short: unix sockets are made below it
        scratch_ = ::mkdtemp(pattern.data());
    }
    ~SoakRun() override { fs::remove_all(scratch_); }
    BackgroundCommand soak(std::vector<std::string> words) {
        words.insert(words.begin(), program("godwit-soak"));
        words.insert(words.end(), {"--scratch", scratch_});
        return BackgroundCommand(words);
    }
    void expect_nothing_left() {
        EXPECT_TRUE(fs::is_empty(scratch_));
        EXPECT_EQ(run_command({"pgrep", "--full", scratch_}).out, "") << "processes are left";
        EXPECT_EQ(run_command({"grep", scratch_, "/proc/self/mounts"}).out, "");
    }

    std::string scratch_;
};

TEST_F(SoakRun, OfAFewTripsFindsNothingAndSaysSo) {
    BackgroundCommand command = soak({"--moves", "6", "--seed", "3"});
    ASSERT_TRUE(command.wait(kLimit)) << command.result().out;
    const CommandResult result = command.result();
    EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
    EXPECT_NE(result.out.find("seed 3"), std::string::npos) << result.out;
    EXPECT_NE(result.out.find("too few to tell a leak"), std::string::npos) << result.out;
    expect_nothing_left();
}

TEST_F(SoakRun, LeavesNothingBehindWhenItIsInterruptedInTheMiddle) {
    BackgroundCommand command = soak({"--for", "1h"});
    ASSERT_TRUE(eventually(kLimit, [&] {
        return command.result().out.find("trips; the agents") != std::string::npos ||
               command.wait(Duration::zero());
    }));
    command.signal(SIGINT);
    ASSERT_TRUE(command.wait(kLimit));
    const CommandResult result = command.result();
    EXPECT_EQ(result.exit_code, 130) << result.out << result.err;
    EXPECT_NE(result.out.find("soak of"), std::string::npos) << result.out;
    expect_nothing_left();
}

TEST_F(SoakRun, RefusesWhatItDoesNotUnderstand) {
    for (const char* words : {"--for 0s", "--for tomorrow", "--accel fast", "--seed x"}) {
        const std::string text(words);
        const size_t space = text.find(' ');
        BackgroundCommand command = soak({text.substr(0, space), text.substr(space + 1)});
        ASSERT_TRUE(command.wait(kLimit));
        EXPECT_EQ(command.result().exit_code, 2) << words;
    }
    expect_nothing_left();
}

}  // namespace
}  // namespace godwit::testing
