// A live guest moves between two real agents, with real QEMUs and --verify, and testifies.
#include <gtest/gtest.h>

#include "tests/harness/agent.h"
#include "tests/harness/guest.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

// Limits that a loaded two-core machine can keep: the tests are about correctness.
const std::vector<std::string> kPatient = {"--downtime-limit", "500ms", "--verify"};

json migrate(TestAgent& from, TestAgent& to, const std::string& vm,
             const std::vector<std::string>& flags = kPatient) {
    std::vector<std::string> words = {"migrate", vm, "--to", to.address(), "--json"};
    words.insert(words.end(), flags.begin(), flags.end());
    const CommandResult result = from.cli(words);
    EXPECT_EQ(result.exit_code, 0) << result.err << from.log() << to.log();
    return json::parse(result.out, nullptr, false);
}

void expect_moved(const json& report) {
    ASSERT_TRUE(report.is_object());
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["guest_at"], "destination");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    EXPECT_GT(report["verify"]["pages"], 0);
    EXPECT_GT(report["downtime_ms"], 0);
    EXPECT_GE(report["rounds"].size(), 2U);
}

struct Case {
    const char* name;
    GuestOptions guest;
};

class MovesThereAndBack : public ::testing::TestWithParam<Case> {};

TEST_P(MovesThereAndBack, AndTheGuestCountsNoError) {
    const GuestOptions& guest = GetParam().guest;
    if (const std::string reason = missing(guest.accel); !reason.empty()) GTEST_SKIP() << reason;
    TestAgent a, b;
    start_guest(a, guest);
    expect_alive_and_well(a, guest.name);
    expect_moved(migrate(a, b, guest.name));
    expect_alive_and_well(b, guest.name);
    EXPECT_TRUE(a.vm_names().empty());
    EXPECT_TRUE(a.ram_files_on_disk().empty());
    expect_moved(migrate(b, a, guest.name));
    expect_alive_and_well(a, guest.name);
    EXPECT_TRUE(b.vm_names().empty());
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
