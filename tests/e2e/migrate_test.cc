// A live guest moves between two real agents, with real QEMUs and --verify, and testifies.
#include <gtest/gtest.h>

#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

struct Case {
    const char* name;
    GuestOptions guest;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

class MovesThereAndBack : public ::testing::TestWithParam<Case> {};

TEST_P(MovesThereAndBack, AndTheGuestCountsNoError) {
    const GuestOptions& guest = GetParam().guest;
    if (const std::string reason = missing(guest.accel); !reason.empty()) GTEST_SKIP() << reason;
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    expect_alive_and_well(a, guest.name);
    move_guest(a, b, guest.name);
    if (HasFailure()) return;
    expect_alive_and_well(b, guest.name);
    move_guest(b, a, guest.name);
    expect_alive_and_well(a, guest.name);
}

INSTANTIATE_TEST_SUITE_P(
    Guests, MovesThereAndBack,
    ::testing::Values(
        Case{"KvmSequentialWriter", {.append = "ws=64M rate=20000 pattern=seq"}},
        Case{"KvmRandomWriter", {.append = "ws=64M rate=20000 pattern=random fill=text"}},
        Case{"KvmHotWriter", {.append = "ws=64M rate=50000 pattern=hot:90/10 fill=zero"}},
        Case{"TcgSequentialWriter", {.accel = "tcg", .append = "ws=32M rate=10000 pattern=seq"}},
        Case{"TcgRandomWriter", {.accel = "tcg", .append = "ws=32M rate=10000 pattern=random"}},
        Case{"KvmTwoVcpus", {.vcpus = 2, .append = "ws=64M rate=20000 pattern=random"}},
        Case{"TcgTwoVcpus", {.accel = "tcg", .vcpus = 2, .append = "ws=32M rate=10000"}},
        Case{"KvmOnSmallPages", {.backing = "4k", .append = "ws=64M rate=20000 pattern=random"}},
        Case{"KvmAboveFourGiB",
             {.memory = "5GiB", .append = "ws=64M rate=20000 place=high pattern=random"}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace godwit::testing
