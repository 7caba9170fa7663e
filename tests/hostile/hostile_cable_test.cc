// Bytes that change between two agents, where TCP does not notice: what came damaged is named, and
// comes again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/linked_hosts.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;
using ::testing::HasSubstr;

constexpr const char* kVm = "vm";

class HostileCable : public ::testing::Test {
  protected:
    HostileCable() : hosts(LinkedHosts::Cable::kLying), a(hosts.on(0)), b(hosts.on(1)) {}
    void SetUp() override {
        if (!hosts.problem().empty()) GTEST_SKIP() << hosts.problem();
    }
    void start(const std::string& working_set) {
        ASSERT_NO_FATAL_FAILURE(start_guest(
            a, {.accel = accel_here(),
                .append = "ws=" + working_set +
                          " rate=500 pattern=random sweep=2500 rest=halt fill=random"}));
    }

    // The guest is at b, whole, and so many frames of it came twice.
    void expect_healed(const json& report) {
        ASSERT_FALSE(HasFailure());
        EXPECT_GT(hosts.lying_cable().lies(), 0U) << "the cable has not lied";
        EXPECT_GT(report["damaged_frames"], 0) << report.dump(2);
        EXPECT_LE(report["damaged_frames"], hosts.lying_cable().lies());
        EXPECT_THAT(b.log(), HasSubstr("damaged"));
        // All that it has: a page that is wrong is found by the guest itself.
        expect_alive_and_well(b, kVm, 6'000);
    }

    LinkedHosts hosts;
    TestAgent a;
    TestAgent b;
};

// A frame is some 1,400 packets.
constexpr uint64_t kNowAndThen = 3'000;
constexpr uint64_t kAFew = 4;

TEST_F(HostileCable, DamagesFramesOfLiveRoundsAndTheirPagesAreSentAgain) {
    start("24M");
    hosts.lying_cable().lie(kNowAndThen, kAFew);
    expect_healed(move_guest(a, b, kVm));
}

TEST_F(HostileCable, DamagesFramesOfTheLastPagesAndTheirPagesAreSentAgain) {
    start("24M");
    hosts.lying_cable().lie(kNowAndThen, kAFew);
    expect_healed(move_guest(a, b, kVm, {"--strategy", "stop-and-copy"}));
}

TEST_F(HostileCable, DamagesFramesOfADrainAndTheirPagesAreListedAndComeAgain) {
    start("24M");
    hosts.lying_cable().lie(kNowAndThen, kAFew);
    expect_healed(move_guest(a, b, kVm, {"--strategy", "postcopy"}));
}

TEST_F(HostileCable, ThatDamagesEverythingEndsTheMigrationAndTheGuestRunsOnAtTheSource) {
    start("80M");  // more than ten frames of each stream
    hosts.lying_cable().lie(1, ~uint64_t{0});
    const CommandResult result = migrate(a, b.address());
    hosts.lying_cable().lie(0, 0);
    expect_at_source(a, result,
                     {.exit_code = 1, .outcome = "failed", .words = {"10 frames in a row"}});
    expect_nothing_left(b);
    move_guest(a, b, kVm);
}

}  // namespace
}  // namespace godwit::testing
