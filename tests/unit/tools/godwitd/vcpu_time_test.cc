#include "tools/godwitd/vcpu_time.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <limits>
#include <vector>

namespace godwit {
namespace {

TEST(VcpuTime, IsUserAndSystemTimeOfTheThread) {
    const auto cpu_s = parse_thread_cpu_s(
        "4711 (CPU 0/KVM) R 4700 4700 4700 0 -1 138428480 90 0 0 0 250 50 0 0 20 0 4 0 1 2 3", 100);
    ASSERT_TRUE(cpu_s.ok()) << cpu_s.status();
    EXPECT_DOUBLE_EQ(*cpu_s, 3);
    const auto named = parse_thread_cpu_s("1 (a ) 9 (b) S 4 5 6 7 8 9 10 11 12 13 100 0 0", 100);
    ASSERT_TRUE(named.ok()) << named.status();
    EXPECT_DOUBLE_EQ(*named, 1);
}

TEST(VcpuTime, OfAnotherLineIsAnError) {
    for (const char* line : {"", "4711", "4711 (x) R 1 2 3", "4711 (x) R a b c d e f g h i j k l",
                             "1 (x) S 4 5 6 7 8 9 10 11 12 13 -1 0"})
        EXPECT_TRUE(absl::IsInternal(parse_thread_cpu_s(line, 100).status())) << line;
}

TEST(VcpuTime, OfAThreadThatRunsIsKnownAndOfOneThatEndedNot) {
    const pid_t self = ::getpid();
    const auto own = threads_cpu_s(self, std::vector{self});
    ASSERT_TRUE(own.ok()) << own.status();
    EXPECT_GE(*own, 0);
    EXPECT_EQ(*threads_cpu_s(self, {}), 0);
    const std::vector<pid_t> gone = {self, std::numeric_limits<pid_t>::max()};
    EXPECT_TRUE(absl::IsNotFound(threads_cpu_s(self, gone).status()));
}

}  // namespace
}  // namespace godwit
