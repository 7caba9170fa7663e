// What data streams are made of and how they are held: whatever it is, every page arrives.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";

TEST(PlainSockets, CarryAGuestThereAndBack) {
    TestAgent a({.flags = {"--no-io-uring"}});
    TestAgent b({.flags = {"--no-io-uring"}});
    for (TestAgent* agent : {&a, &b})
        EXPECT_THAT(agent->log(), HasSubstr("plain sockets, which cost more CPU: --no-io-uring"));
    ASSERT_NO_FATAL_FAILURE(start_guest(
        a, {.accel = accel_here(), .append = "ws=64M rate=20000 pattern=random fill=text"}));
    move_guest(a, b, kVm);
    if (HasFailure()) return;
    expect_alive_and_well(b, kVm);
    EXPECT_THAT(a.log(), HasSubstr("zero-copy sends: off: plain sockets"));
    // With pages that are missing when it resumes: faults and the push go the same way.
    move_guest(b, a, kVm, {"--strategy", "postcopy"});
    expect_alive_and_well(a, kVm);
}

TEST(PlainSockets, AndIoUringUnderstandEachOther) {
    TestAgent a;
    TestAgent b({.flags = {"--no-io-uring"}});
    ASSERT_NO_FATAL_FAILURE(start_guest(a, small_guest(kVm)));
    move_guest(a, b, kVm);
    if (HasFailure()) return;
    move_guest(b, a, kVm);
    expect_alive_and_well(a, kVm);
}

TEST(ZeroCopy, IsGivenUpWhereTheKernelCopies) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(
        start_guest(a, {.accel = accel_here(), .append = "ws=32M rate=1000 pattern=random"}));
    const json report = move_guest(a, b, kVm);
    EXPECT_EQ(report["zero_copy_streams"], 0) << "agents of one host";
    EXPECT_THAT(a.log(), HasSubstr("zero-copy sends: off: the kernel copied all the same"));
    expect_alive_and_well(b, kVm);
}

}  // namespace
}  // namespace godwit::testing
