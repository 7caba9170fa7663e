#include "bench/lab/host_load.h"

#include <gtest/gtest.h>

#include "engine/base/wait.h"

namespace godwit {
namespace {

TEST(HostLoad, CountsIdleAndStolenTimeButNoGuestTwice) {
    const auto times = parse_cpu_times("cpu  10 20 30 400 5 1 2 3 1000 2000\ncpu0 1 2 3\n");
    ASSERT_TRUE(times.ok()) << times.status();
    EXPECT_EQ(times->idle, 405);
    EXPECT_EQ(times->total, 471);
}

TEST(HostLoad, RefusesWhatIsNoProcStat) {
    EXPECT_FALSE(parse_cpu_times("").ok());
    EXPECT_FALSE(parse_cpu_times("cpu 1 2").ok());
    EXPECT_FALSE(parse_cpu_times("intr 1 2 3 4 5 6 7 8 9").ok());
}

TEST(HostLoad, TheIdleShareIsThatOfTheTimeBetween) {
    EXPECT_DOUBLE_EQ(idle_percent({100, 200}, {130, 240}), 75);
    EXPECT_DOUBLE_EQ(idle_percent({100, 200}, {100, 200}), 0);
}

TEST(HostLoad, WaitingForAnIdleHostEndsWithPatienceOrAnInterrupt) {
    EXPECT_TRUE(wait_until_idle(100.5, Duration::zero(), -1).ok());
    auto cancel = Wakeup::create();
    ASSERT_TRUE(cancel.ok());
    cancel->notify();
    EXPECT_TRUE(
        absl::IsCancelled(wait_until_idle(100.5, std::chrono::seconds(20), cancel->fd()).status()));
}

}  // namespace
}  // namespace godwit
