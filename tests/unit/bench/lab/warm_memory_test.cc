#include "bench/lab/warm_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <atomic>
#include <fstream>

#include "engine/base/wait.h"
#include "tests/unit/bench/lab/soon.h"

namespace godwit {
namespace {

int64_t peak_resident_kib() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

int64_t resident_kib() {
    long pages = 0;
    std::ifstream("/proc/self/statm") >> pages >> pages;
    return pages * 4;
}

TEST(WarmMemory, IsAllOfTheGuestsOnBothSidesWhereQemuFillsASharedFile) {
    constexpr Bytes kWorkingSet = Bytes{76} << 20;
    const GuestConfig guest{.memory = Bytes{4} << 30, .working_set = kWorkingSet};
    EXPECT_EQ(memory_of_move(*parse_engine("qemu-precopy-shared"), guest),
              memory_of_move(2 * guest.memory));
    for (const char* frugal : {"qemu-precopy", "godwit-precopy", "floor", "libvirt-precopy"})
        EXPECT_EQ(memory_of_move(*parse_engine(frugal), guest), memory_of_move(kWorkingSet))
            << frugal;
}

TEST(WarmMemory, TouchesAllOfIt) {
    ASSERT_TRUE(WarmMemory::hold(Bytes{256} << 20, -1).ok());
    EXPECT_GE(peak_resident_kib(), 256 << 10);
}

TEST(WarmMemory, IsGivenBackWhileOthersTakeWhatIsFree) {
    const auto warm = WarmMemory::hold(Bytes{256} << 20, -1, [] { return Bytes{1} << 30; });
    ASSERT_TRUE(warm.ok());
    for (const MonotonicTime end = soon(); resident_kib() > 128 << 10;)
        ASSERT_LT(Clock::system().now(), end) << resident_kib();
}

TEST(WarmMemory, IsKeptWhileEnoughOfItIsFree) {
    std::atomic<int> asked{0};
    const auto warm = WarmMemory::hold(Bytes{256} << 20, -1,
                                       [&asked] { return Bytes{asked++ == 0 ? 1u : 2u} << 30; });
    ASSERT_TRUE(warm.ok());
    for (const MonotonicTime end = soon(); asked < 5;) ASSERT_LT(Clock::system().now(), end);
    EXPECT_GE(resident_kib(), 256 << 10);
}

TEST(WarmMemory, OfLessThanAStepIsNothing) { EXPECT_TRUE(WarmMemory::hold(1, -1).ok()); }

TEST(WarmMemory, EndsWhenItIsInterrupted) {
    const auto interrupt = Wakeup::create();
    ASSERT_TRUE(interrupt.ok());
    interrupt->notify();
    EXPECT_TRUE(absl::IsCancelled(WarmMemory::hold(Bytes{256} << 20, interrupt->fd()).status()));
}

}  // namespace
}  // namespace godwit
