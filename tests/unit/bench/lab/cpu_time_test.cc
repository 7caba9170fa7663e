#include "bench/lab/cpu_time.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "bench/lab/child.h"
#include "tests/unit/bench/lab/soon.h"

namespace godwit {
namespace {

using ::testing::Contains;
using ::testing::Not;

constexpr const char* kStat =
    "42 (a) b (c) S 7 42 42 0 -1 4194560 100 200 3 4 250 150 3000 1000 20 0 5 0 12345 1000 10 "
    "18446744073709551615 1 1 0 0 0 0 4096 81922 0 0 0 17 1 0 0 0 9 50 500 0 0 0 0 0 0 0 0";

// Spends some tens of milliseconds of CPU.
const std::vector<std::string> kBusy{"sh", "-c",
                                     "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done"};

TEST(CpuTime, KeepsUserSystemAndGuestApartBehindAnyName) {
    const auto cpu = parse_process_stat(kStat, 100);
    ASSERT_TRUE(cpu.ok()) << cpu.status();
    EXPECT_EQ(cpu->parent, 7);
    EXPECT_DOUBLE_EQ(cpu->own.user, 2);
    EXPECT_DOUBLE_EQ(cpu->own.system, 1.5);
    EXPECT_DOUBLE_EQ(cpu->own.guest, 0.5);
    EXPECT_DOUBLE_EQ(cpu->reaped.user, 25);
    EXPECT_DOUBLE_EQ(cpu->reaped.system, 10);
    EXPECT_DOUBLE_EQ(cpu->reaped.guest, 5);
    EXPECT_DOUBLE_EQ(cpu->own.total(), 3.5);
}

TEST(CpuTime, RefusesWhatIsNoStat) {
    std::string broken = kStat;
    broken.replace(broken.find("250"), 3, "x");
    for (const std::string& text : {std::string(), std::string("42 (a) S 7 42"), broken})
        EXPECT_FALSE(parse_process_stat(text, 100).ok()) << text;
}

TEST(CpuTime, AChildThatHasEndedStaysInItsFamily) {
    const auto before = cpu_of_family(::getpid());
    ASSERT_TRUE(before.ok()) << before.status();
    auto child = Child::start(kBusy);
    ASSERT_TRUE(child.ok()) << child.status();
    EXPECT_THAT(children_of(::getpid()), Contains(child->pid()));
    ASSERT_TRUE(child->wait(soon(), -1).ok());
    EXPECT_THAT(children_of(::getpid()), Not(Contains(child->pid())));
    const auto after = cpu_of_family(::getpid());
    ASSERT_TRUE(after.ok()) << after.status();
    EXPECT_GT((*after - *before).total(), 0);
    EXPECT_TRUE(absl::IsNotFound(cpu_of(child->pid()).status()));
}

TEST(CpuTime, TheHostIsBusyForAsLongAsItIs) {
    const auto before = host_busy_s();
    ASSERT_TRUE(before.ok()) << before.status();
    auto child = Child::start(kBusy);
    ASSERT_TRUE(child.ok()) << child.status();
    ASSERT_TRUE(child->wait(soon(), -1).ok());
    EXPECT_GT(*host_busy_s(), *before);
}

}  // namespace
}  // namespace godwit
