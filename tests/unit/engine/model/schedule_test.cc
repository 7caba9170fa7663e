#include "engine/model/schedule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>

#include "engine/model/synthetic_vm.h"

namespace godwit {
namespace {

constexpr double kGigabit = 1.25e8;

// Planned on fitted curves, run with the guests themselves.
TEST(Schedule, IsNeverMuchWorseThanTheBetterOfSerialAndParallel) {
    int clear = 0;
    int missed_more = 0;  // seeds with more limits missed than the better of the two
    double worst = 0;
    for (uint64_t seed = 1; seed <= 100; ++seed) {
        std::vector<SimulatedVm> real;
        std::vector<SimulatedVm> model;
        for (uint64_t i = 0; i < 4; ++i) {
            SimulatedVm vm = *synthetic_vm(
                {.pattern = kPatternNames[(seed + i) % 4], .variation = 0.5}, seed * 4 + i);
            vm.costs = {.setup_s = 0.3, .per_round_s = 0.01, .pause_s = 0.01};
            vm.limits.on_no_converge = NoConverge::kStopAndCopy;
            std::vector<double> windows;
            for (double window = 0.01; window < 40; window *= 1.5) windows.push_back(window);
            real.push_back(vm);
            const auto curves =
                fit_dirty_curves(sample_writer(*vm.writer, windows, 4), vm.touched_pages);
            vm.writer = curve_writer(curves->mid);
            model.push_back(vm);
        }
        const auto plan = auto_schedule(model, kGigabit);
        ASSERT_TRUE(plan.ok());
        const auto ours = expect_schedule(real, kGigabit, plan->order, plan->at_a_time);
        const auto serial = expect_schedule(real, kGigabit, {0, 1, 2, 3}, 1);
        const auto parallel = expect_schedule(real, kGigabit, {0, 1, 2, 3}, 4);
        const uint32_t fewest = std::min(serial->missed_limits, parallel->missed_limits);
        missed_more += ours->missed_limits > fewest ? 1 : 0;
        worst = std::max(worst, ours->total_s / std::min(serial->total_s, parallel->total_s));
        clear += ours->total_s <= 0.8 * std::max(serial->total_s, parallel->total_s) ? 1 : 0;
    }
    std::printf(
        "seeds 1-100: at most %.3f of the better; 0.8 of the worse in %d; more limits missed in "
        "%d\n",
        worst, clear, missed_more);
    EXPECT_LE(worst, 1.05);
    EXPECT_GE(clear, 90);
    EXPECT_LE(missed_more, 1);  // seed by seed it can't be: the guests differ from their curves
}

TEST(Schedule, KeepsWhatIsUnderWayFirst) {
    std::vector<SimulatedVm> vms;
    for (uint64_t i = 0; i < 3; ++i) {
        vms.push_back(*synthetic_vm({.pattern = kPatternNames[0]}, i));
        vms.back().touched_pages *= static_cast<double>(i + 1);
        vms.back().limits.on_no_converge = NoConverge::kStopAndCopy;
    }
    for (uint32_t first = 0; first < 3; ++first) {
        const auto schedule = auto_schedule(vms, kGigabit, 1, first);
        ASSERT_TRUE(schedule.ok()) << schedule.status();
        ASSERT_EQ(schedule->order.size(), 3U);
        EXPECT_EQ(schedule->order.front(), first);
    }
    EXPECT_TRUE(absl::IsInvalidArgument(auto_schedule(vms, kGigabit, 1, 3U).status()));
}

}  // namespace
}  // namespace godwit
