#include "engine/base/cpu_latency.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

namespace godwit {
namespace {

using std::chrono::microseconds;
using testing::HasSubstr;

// What the kernel keeps to now, of everybody's wishes; none where there is no such device.
std::optional<int32_t> kernel_limit_us() {
    const UniqueFd fd(::open("/dev/cpu_dma_latency", O_RDONLY | O_CLOEXEC));
    int32_t us = 0;
    if (!fd.valid() || ::read(fd.get(), &us, sizeof us) != sizeof us) return std::nullopt;
    return us;
}

TEST(CpuLatencyHold, IsTheKernelsLimitWhileItLivesAndNoLonger) {
    const std::optional<int32_t> before = kernel_limit_us();
    if (!before) GTEST_SKIP() << "no /dev/cpu_dma_latency here";
    {
        const auto hold = CpuLatencyHold::take(microseconds(7));
        ASSERT_TRUE(hold.ok()) << hold.status();
        EXPECT_TRUE(hold->holds());
        EXPECT_LE(kernel_limit_us(), 7);
    }
    // Others may have come or gone meanwhile, but not with 7.
    EXPECT_NE(kernel_limit_us(), 7);
}

TEST(CpuLatencyHold, OfNoLimitHoldsNothing) {
    const auto hold = CpuLatencyHold::take(std::nullopt);
    ASSERT_TRUE(hold.ok()) << hold.status();
    EXPECT_FALSE(hold->holds());
}

TEST(ParseCpuLatency, TakesMicrosecondsAndOff) {
    EXPECT_EQ(*parse_cpu_latency("0"), microseconds(0));
    EXPECT_EQ(*parse_cpu_latency("1000000"), microseconds(1'000'000));
    EXPECT_EQ(*parse_cpu_latency("off"), std::nullopt);
    EXPECT_TRUE(parse_cpu_latency("auto")->has_value());
}

TEST(ParseCpuLatency, RefusesWhatIsNone) {
    for (const char* text : {"", "-1", "1000001", "2us", "99999999999", "on", "1.5"}) {
        const auto refused = parse_cpu_latency(text);
        ASSERT_FALSE(refused.ok()) << text;
        EXPECT_THAT(refused.status().message(), HasSubstr("auto, off, or microseconds"));
    }
}

TEST(DefaultCpuLatency, PollsInAVmAndSleepsALittleOnHardware) {
    EXPECT_EQ(default_cpu_latency("haltpoll"), microseconds(0));
    EXPECT_EQ(default_cpu_latency("intel_idle"), microseconds(2));
    EXPECT_EQ(default_cpu_latency("acpi_idle"), microseconds(2));
    EXPECT_EQ(default_cpu_latency(""), microseconds(2));
}

}  // namespace
}  // namespace godwit
