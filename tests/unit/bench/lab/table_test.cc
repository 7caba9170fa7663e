#include "bench/lab/table.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "bench/lab/postcopy_table.h"

namespace godwit {
namespace {

using ::testing::ContainsRegex;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<Results> results() {
    return {{.engine = "floor", .runs = {{{"downtime_ms", 4}}, {{"downtime_ms", 6}}}},
            {.engine = "qemu-postcopy",
             .runs = {{{"downtime_ms", 10}, {"stall_ms", 200}, {"faults", 7}}}},
            {.engine = "godwit-postcopy", .missing = true, .last_error = "no such strategy"},
            {.engine = "qemu-precopy", .failed = 2, .last_error = "did not end"}};
}

TEST(Table, HasMedianAndP90AndADashForWhatIsNotReported) {
    const std::string table = render_table(results(), postcopy_columns());
    EXPECT_THAT(table, ContainsRegex("floor +2 +5\\.00 / +5\\.80 +-"));
    EXPECT_THAT(table, ContainsRegex("qemu-postcopy +1 +10\\.00 / +10\\.00"));
}

TEST(Table, SaysWhatFailedAndWhatIsNotThere) {
    const std::string table = render_table(results(), postcopy_columns());
    EXPECT_THAT(table, HasSubstr("2 failed: did not end"));
    EXPECT_THAT(table, ContainsRegex("godwit-postcopy +not there: no such strategy"));
}

TEST(Table, RatiosAreOfMedians) {
    const std::string ratios = render_ratios(results());
    EXPECT_THAT(ratios, ContainsRegex("floor +1\\.00 +0\\.50"));
    EXPECT_THAT(ratios, ContainsRegex("qemu-postcopy +2\\.00 +1\\.00"));
    EXPECT_THAT(ratios, Not(HasSubstr("qemu-precopy ")));
}

}  // namespace
}  // namespace godwit
