// Guests that resume before their last pages are there, or after all of them were copied in the
// pause: each strategy, there and back, with --verify and the guest's own testimony.
#include <gtest/gtest.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

constexpr const char* kVm = "vm";

struct Case {
    const char* name;
    const char* strategy;
    GuestOptions guest;
};
void PrintTo(const Case& test, std::ostream* out) { *out << test.name; }

// Nothing of the source's memory is left once the destination has all of it.
void expect_no_kept_ram(const TestAgent& agent) {
    for (const std::string& file : agent.ram_files_on_disk())
        EXPECT_EQ(file.find(".kept-"), std::string::npos) << file;
}

class MovesByStrategy : public ::testing::TestWithParam<Case> {};

TEST_P(MovesByStrategy, ThereAndBackAndTheGuestCountsNoError) {
    const GuestOptions& guest = GetParam().guest;
    if (const std::string reason = missing(guest.accel); !reason.empty()) GTEST_SKIP() << reason;
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    const std::vector<std::string> flags = {"--strategy", GetParam().strategy};
    const std::string strategy = GetParam().strategy;
    for (const auto& [from, to] : {std::pair{&a, &b}, std::pair{&b, &a}}) {
        const json report = move_guest(*from, *to, kVm, flags);
        if (HasFailure()) return;
        EXPECT_EQ(report["strategy"], strategy);
        if (strategy == "postcopy") {
            EXPECT_EQ(report["postcopy"]["used"], true);
            EXPECT_GT(report["postcopy"]["missing_pages"], 0);
            EXPECT_GT(report["postcopy"]["drain_ms"], 0);
        }
        if (strategy == "stop-and-copy") {
            EXPECT_EQ(report["postcopy"]["used"], false);
        }
        expect_alive_and_well(*to, kVm);
        expect_no_kept_ram(*from);
    }
}

const GuestOptions kSmallRandom{.append = "ws=64M rate=20000 pattern=random"};

INSTANTIATE_TEST_SUITE_P(
    Guests, MovesByStrategy,
    ::testing::Values(
        Case{"KvmPostcopy", "postcopy", kSmallRandom},
        Case{"KvmPostcopyFlatOut", "postcopy", {.append = "ws=128M rate=0 pattern=random"}},
        Case{"KvmPostcopyTwoVcpus",
             "postcopy",
             {.vcpus = 2, .append = "ws=64M rate=0 pattern=random"}},
        Case{"KvmPostcopyOnSmallPages",
             "postcopy",
             {.backing = "4k", .append = "ws=64M rate=20000 pattern=random"}},
        Case{"TcgPostcopy", "postcopy", {.accel = "tcg", .append = "ws=32M rate=10000"}},
        Case{"TcgPostcopyTwoVcpusFlatOut",
             "postcopy",
             {.accel = "tcg", .vcpus = 2, .append = "ws=64M rate=0 pattern=random"}},
        Case{"KvmHybridFlatOut", "hybrid", {.append = "ws=128M rate=0 pattern=random"}},
        Case{"KvmHybridTwoVcpus", "hybrid", {.vcpus = 2, .append = "ws=64M rate=0"}},
        Case{"KvmHybridIdle", "hybrid", {.append = "ws=4M rate=10"}},
        Case{"TcgHybridFlatOut", "hybrid", {.accel = "tcg", .append = "ws=64M rate=0"}},
        Case{"KvmStopAndCopyFlatOut", "stop-and-copy", {.append = "ws=128M rate=0"}},
        Case{"TcgStopAndCopyTwoVcpus",
             "stop-and-copy",
             {.accel = "tcg", .vcpus = 2, .append = "ws=32M rate=0"}}),
    [](const auto& test) { return std::string(test.param.name); });

class KvmGuest : public ::testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = missing("kvm"); !reason.empty()) GTEST_SKIP() << reason;
    }
    std::optional<ReservedHugePages> reserved;  // outlives the guests
    TestAgent a;
    TestAgent b;
};

class KvmGuestOnHugetlb : public KvmGuest, public ::testing::WithParamInterface<const char*> {};

TEST_P(KvmGuestOnHugetlb, MovesWithWhateverStrategy) {
    reserved.emplace(144);
    if (!reserved->enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    ASSERT_NO_FATAL_FAILURE(start_guest(
        a,
        {.memory = "128MiB", .backing = "hugetlb-2M", .append = "ws=32M rate=0 pattern=random"}));
    const std::string strategy = GetParam();
    const json report = move_guest(a, b, kVm, {"--strategy", strategy});
    EXPECT_EQ(report["strategy"], strategy);
    if (strategy == "postcopy") {
        EXPECT_EQ(report["postcopy"]["used"], true);
    }
    expect_alive_and_well(b, kVm);
}

INSTANTIATE_TEST_SUITE_P(By, KvmGuestOnHugetlb,
                         ::testing::Values("stop-and-copy", "postcopy", "hybrid"),
                         [](const auto& test) {
                             const std::string name = test.param;
                             return name == "stop-and-copy" ? std::string("StopAndCopy") : name;
                         });

// A link of 20 MB/s under a guest that dirties its 64 MiB all the time: r is far above 1.
const GuestOptions kFasterThanTheLink{.append = "ws=64M rate=0 pattern=random"};

TEST_F(KvmGuest, FasterThanTheLinkFinishesByHybridOfItself) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFasterThanTheLink));
    const json report = move_guest(a, b, kVm, {"--strategy", "hybrid", "--bandwidth", "20MB/s"});
    EXPECT_EQ(report["strategy"], "hybrid");
    EXPECT_EQ(report["postcopy"]["used"], true);
    EXPECT_NE(report["switch_reason"].get<std::string>().find("live rounds"), std::string::npos);
    expect_alive_and_well(b, kVm);
}

TEST_F(KvmGuest, IsSwitchedToPostcopyInTheMiddleOfARound) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFasterThanTheLink));
    BackgroundCommand command =
        a.cli_in_background({"migrate", kVm, "--to", b.address(), "--json", "--verify",
                             "--strategy", "precopy", "--bandwidth", "6MB/s", "--id", "m"});
    ASSERT_TRUE(eventually(std::chrono::seconds(60), [&] {
        return a.cli({"switch", "m"}).exit_code == 0;
    }));
    // What is left takes some ten seconds at this rate.
    ASSERT_TRUE(command.wait(std::chrono::seconds(150)));
    const json report = json_of(command.result());
    ASSERT_TRUE(report.is_object()) << command.result().err;
    EXPECT_EQ(report["outcome"], "done");
    EXPECT_EQ(report["postcopy"]["used"], true);
    EXPECT_NE(report["switch_reason"].get<std::string>().find("asked for"), std::string::npos);
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    expect_alive_and_well(b, kVm);
    expect_nothing_left(a, kVm);
}

TEST_F(KvmGuest, IsSwitchedByADeadlineForAllOfIt) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFasterThanTheLink));
    const json report = move_guest(
        a, b, kVm, {"--strategy", "precopy", "--bandwidth", "20MB/s", "--finish-by", "3s"});
    EXPECT_EQ(report["postcopy"]["used"], true);
    EXPECT_NE(report["switch_reason"].get<std::string>().find("to be over in 3.0 s"),
              std::string::npos);
    expect_alive_and_well(b, kVm);
}

TEST_F(KvmGuest, CannotBeSwitchedWhenItsRoundsAreOverOrNeverWere) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, {.append = "ws=4M rate=10"}));
    move_guest(a, b, kVm, {"--id", "m"});
    const CommandResult over = a.cli({"switch", "m", "--json"});
    EXPECT_EQ(over.exit_code, 3);
    EXPECT_NE(over.err.find("no live rounds any more"), std::string::npos) << over.err;
    EXPECT_EQ(a.cli({"switch", "nobody"}).exit_code, 3);
    const CommandResult resumed = a.cli({"resume", "m"});
    EXPECT_EQ(resumed.exit_code, 3);
    EXPECT_NE(resumed.err.find("has ended already"), std::string::npos) << resumed.err;
}

TEST_F(KvmGuest, PrecopyStillFailsByDefaultWhenItDoesNotConverge) {
    ASSERT_NO_FATAL_FAILURE(start_guest(a, kFasterThanTheLink));
    const CommandResult result =
        migrate(a, b.address(), kVm,
                {"--strategy", "precopy", "--bandwidth", "10MB/s", "--max-rounds", "3"});
    expect_at_source(a, result,
                     {.exit_code = 1, .outcome = "failed", .words = {"no convergence", "hybrid"}});
}

}  // namespace
}  // namespace godwit::testing
