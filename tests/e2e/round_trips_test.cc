// One guest goes there and back many times, with each number of streams.
#include <gtest/gtest.h>

#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

struct Case {
    const char* name;
    int round_trips;
    GuestOptions guest;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

class ManyRoundTrips : public ::testing::TestWithParam<Case> {};

TEST_P(ManyRoundTrips, LeaveTheSameGuestWithoutAnError) {
    const GuestOptions& guest = GetParam().guest;
    if (const std::string reason = missing(guest.accel); !reason.empty()) GTEST_SKIP() << reason;
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    uint64_t ticks = testimony(a, guest.name).ticks;
    const auto go = [&](TestAgent& from, TestAgent& to, int trip) {
        std::vector<std::string> flags = kPatient;
        flags.insert(flags.end(), {"--streams", trip % 2 == 0 ? "1" : "4"});
        move_guest(from, to, guest.name, flags);
        if (HasFailure()) return;
        expect_alive_and_well(to, guest.name);
        const uint64_t now = testimony(to, guest.name).ticks;
        EXPECT_GT(now, ticks) << "not the same guest";
        ticks = now;
    };
    for (int trip = 0; trip < GetParam().round_trips && !HasFailure(); ++trip) {
        go(a, b, trip);
        if (HasFailure()) return;
        go(b, a, trip + 1);
    }
}

INSTANTIATE_TEST_SUITE_P(
    Guests, ManyRoundTrips,
    ::testing::Values(
        Case{"KvmTenTimes", 10, {.append = "ws=64M rate=20000 pattern=random"}},
        Case{"KvmTwoVcpusTenTimes",
             10,
             {.vcpus = 2, .append = "ws=32M rate=30000 pattern=hot:90/10"}},
        Case{"TcgFourTimes",
             4,
             {.accel = "tcg", .vcpus = 2, .append = "ws=32M rate=10000 pattern=random"}}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace godwit::testing
