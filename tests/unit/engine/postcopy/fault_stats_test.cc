#include "engine/postcopy/fault_stats.h"

#include <gtest/gtest.h>

#include "engine/base/units.h"

namespace godwit {
namespace {

MonotonicTime at(int64_t ms) { return MonotonicTime(std::chrono::milliseconds(ms)); }

TEST(FaultStats, AStallLastsFromTheFirstFaultToTheLastPage) {
    FaultStats stats;
    FaultMeter meter(stats);
    meter.stall_begins(at(100));
    meter.stall_begins(at(105));  // another fault: nothing new
    EXPECT_EQ(to_ms(stats.total_stall(at(110))), 10);
    EXPECT_EQ(to_ms(stats.longest_stall(at(110))), 10);
    meter.stall_ends(at(130));
    meter.stall_begins(at(200));
    meter.stall_ends(at(210));
    EXPECT_EQ(to_ms(stats.total_stall(at(500))), 40);
    EXPECT_EQ(to_ms(stats.longest_stall(at(500))), 30);
    meter.stall_ends(at(600));  // none is under way
    EXPECT_EQ(to_ms(stats.total_stall(at(700))), 40);
}

TEST(FaultStats, PagesAreCountedByTheirOrigin) {
    FaultStats stats;
    FaultMeter meter(stats);
    meter.placed(PageOrigin::kDemand, 1);
    meter.placed(PageOrigin::kPrepaging, 2);
    meter.placed(PageOrigin::kPush, 4);
    meter.waited(std::chrono::microseconds(50));
    meter.waited(std::chrono::microseconds(70));
    const FaultStats copy = meter.snapshot();
    EXPECT_EQ(copy.demand_pages, 1u);
    EXPECT_EQ(copy.prepaging_pages, 2u);
    EXPECT_EQ(copy.push_pages, 4u);
    EXPECT_EQ(copy.waited_fault_count, 2u);
    EXPECT_EQ(copy.percentiles().count, 2u);
    EXPECT_EQ(copy.percentiles().max, std::chrono::microseconds(70));
}

}  // namespace
}  // namespace godwit
