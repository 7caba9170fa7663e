// Why the live rounds end, and what becomes of a guest that writes faster than the link carries.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";

// 8 MiB of random bytes, written anew several times while the link carries them once: by a guest
// that is emulated beside other tests too.
class GuestThatNeverConverges : public ::testing::Test {
  protected:
    void SetUp() override {
        start_guest(a, {.name = kVm,
                        .memory = "128MiB",
                        .accel = accel_here(),
                        .append = "ws=8M rate=0 pattern=random sweep=0"});
    }

    static std::vector<std::string> slowly(const std::vector<std::string>& more) {
        std::vector<std::string> flags = {"--bandwidth", "5MiB/s"};
        flags.insert(flags.end(), more.begin(), more.end());
        return flags;
    }

    void expect_given_up(const std::vector<std::string>& flags, const std::string& reason,
                         size_t rounds) {
        const CommandResult result = migrate_with(a, b, kVm, slowly(flags));
        expect_at_source(a, result,
                         {.exit_code = 1,
                          .outcome = "failed",
                          .words = {reason, "r = ",
                                    "allow a longer --downtime-limit, or take --strategy hybrid"}},
                         kVm);
        EXPECT_EQ(json_of(result)["rounds"].size(), rounds);
        expect_nothing_left(b, kVm);
    }

    void expect_switched(const std::vector<std::string>& flags, const std::string& reason,
                         size_t rounds) {
        const json report = move_guest(a, b, kVm, slowly(flags));
        EXPECT_THAT(report["switch_reason"].get<std::string>(), HasSubstr(reason));
        EXPECT_EQ(report["rounds"].size(), rounds) << "live rounds and the last pages";
        expect_alive_and_well(b, kVm, 100);
    }

    TestAgent a, b;
};

TEST_F(GuestThatNeverConverges, StaysAtTheSource) {
    // Round 0 is all of the touched RAM, the others little less.
    expect_given_up({}, "no convergence within 3.0 times the touched RAM", 4);
}

TEST_F(GuestThatNeverConverges, StaysAtTheSourceAfterSoManyRounds) {
    expect_given_up({"--max-rounds", "2"}, "no convergence in 2 rounds", 2);
    // Nothing of that stands in the way of the next attempt.
    expect_switched({"--max-rounds", "1", "--on-no-converge", "stop-and-copy"},
                    "no convergence in 1 rounds", 2);
}

TEST_F(GuestThatNeverConverges, StaysAtTheSourceAfterSoMuchData) {
    expect_given_up({"--max-data", "1.2x"}, "no convergence within 1.2 times the touched RAM", 2);
}

TEST_F(GuestThatNeverConverges, MovesWithALongPauseWhenAsked) {
    expect_switched({"--max-rounds", "3", "--on-no-converge", "stop-and-copy"},
                    "no convergence in 3 rounds", 4);
}

TEST_F(GuestThatNeverConverges, MovesWhenTheRestIsBelowTheThreshold) {
    expect_switched({"--threshold", "64MiB"}, "left, threshold 64", 2);
}

TEST_F(GuestThatNeverConverges, MovesWhenThePauseMayBeLong) {
    expect_switched({"--downtime-limit", "60s"}, "limit 60000.0 ms", 2);
}

class EveryLink : public ::testing::TestWithParam<std::vector<std::string>> {};

TEST_P(EveryLink, CarriesTheGuest) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    std::vector<std::string> flags = kPatient;
    flags.insert(flags.end(), GetParam().begin(), GetParam().end());
    const json report = move_guest(a, b, kVm, flags);
    const int streams = GetParam()[0] == "--streams" ? std::stoi(GetParam()[1]) : 2;
    EXPECT_EQ(report["streams"], streams);
    expect_alive_and_well(b, kVm);
}

INSTANTIATE_TEST_SUITE_P(Flags, EveryLink,
                         ::testing::Values(std::vector<std::string>{"--streams", "1"},
                                           std::vector<std::string>{"--streams", "4"},
                                           std::vector<std::string>{"--streams", "16"},
                                           std::vector<std::string>{"--bandwidth", "500Mbit"},
                                           std::vector<std::string>{"--bandwidth", "20MiB/s"}));

}  // namespace
}  // namespace godwit::testing
