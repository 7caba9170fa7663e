#include "bench/lab/run/progress.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace godwit {
namespace {

using ::testing::HasSubstr;

TEST(Progress, SaysWhatRunsWhatIsLeftAndWhenItWillEnd) {
    const std::string line = progress_line({.done = 5,
                                            .total = 10,
                                            .what = "sparse: godwit-precopy",
                                            .which = "3 of 5",
                                            .left_s = 500.2},
                                           200);
    EXPECT_THAT(line, HasSubstr("[##########..........]   5/10  sparse: godwit-precopy (3 of 5)"));
    EXPECT_THAT(line, HasSubstr("8:21 left, ends "));
}

TEST(Progress, ALogSaysBehindEachResultHowFarItIs) {
    const std::string note = progress_note({.done = 12, .total = 60, .left_s = 90});
    EXPECT_THAT(note, ::testing::MatchesRegex(" \\(12/60, ends [0-9][0-9]:[0-9][0-9]\\)"));
}

TEST(Progress, FitsIntoTheTerminalAndKeepsTheEnd) {
    const std::string line =
        progress_line({.total = 1, .what = std::string(300, 'x'), .left_s = 4000}, 80);
    EXPECT_EQ(line.size(), 80U);
    EXPECT_THAT(line, HasSubstr("1:06:40 left"));
}

TEST(Durations, AreThoseOfTheRowElseOfTheScenarioElseOfAny) {
    Durations durations;
    EXPECT_GT(durations.expected("a", "x"), 0);
    durations.note("a", "x", 2);
    durations.note("a", "x", 4);
    durations.note("b", "y", 12);
    EXPECT_EQ(durations.expected("a", "x"), 3);
    EXPECT_EQ(durations.expected("b", "z"), 12);
    EXPECT_EQ(durations.expected("c", "x"), 6);
}

}  // namespace
}  // namespace godwit
