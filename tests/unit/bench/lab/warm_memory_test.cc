#include "bench/lab/warm_memory.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include "engine/base/wait.h"

namespace godwit {
namespace {

int64_t peak_resident_kib() {
    rusage usage{};
    ::getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

TEST(WarmMemory, TouchesAllOfIt) {
    ASSERT_TRUE(warm_memory(Bytes{256} << 20, -1).ok());
    EXPECT_GE(peak_resident_kib(), 256 << 10);
}

TEST(WarmMemory, OfLessThanAStepIsNothing) { EXPECT_TRUE(warm_memory(1, -1).ok()); }

TEST(WarmMemory, EndsWhenItIsInterrupted) {
    const auto interrupt = Wakeup::create();
    ASSERT_TRUE(interrupt.ok());
    interrupt->notify();
    EXPECT_TRUE(absl::IsCancelled(warm_memory(Bytes{256} << 20, interrupt->fd())));
}

}  // namespace
}  // namespace godwit
