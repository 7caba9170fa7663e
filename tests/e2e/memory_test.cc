// Kinds of guest memory: huge pages, several blocks, a balloon.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"
#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

void expect_there_and_back(const GuestOptions& guest, size_t ram_files) {
    TestAgent a, b;
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    EXPECT_EQ(a.vm(guest.name)["ram_files"].size(), ram_files);
    expect_alive_and_well(a, guest.name);
    move_guest(a, b, guest.name);
    if (::testing::Test::HasFailure()) return;
    expect_alive_and_well(b, guest.name);
    move_guest(b, a, guest.name);
    expect_alive_and_well(a, guest.name);
}

class Accelerator : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = missing(GetParam()); !reason.empty()) GTEST_SKIP() << reason;
    }
};

TEST_P(Accelerator, MovesAGuestOnHugePages) {
    // Twice 128 MiB, and some to spare.
    const ReservedHugePages reserved(144);
    if (!reserved.enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    expect_there_and_back({.memory = "128MiB",
                           .accel = GetParam(),
                           .backing = "hugetlb-2M",
                           .append = "ws=32M rate=5000 pattern=random"},
                          1);
}

TEST_P(Accelerator, MovesAGuestOfTwoNumaNodes) {
    // The working set begins in one node and ends in the other.
    expect_there_and_back({.memory = "128MiB",
                           .accel = GetParam(),
                           .vcpus = 2,
                           .append = "ws=80M rate=10000 pattern=random",
                           .extra = "numa:\n  - {memory: 64MiB, vcpus: [0]}\n"
                                    "  - {memory: 64MiB, vcpus: [1]}\n"},
                          2);
}

INSTANTIATE_TEST_SUITE_P(Accelerators, Accelerator, ::testing::Values("kvm", "tcg"),
                         [](const auto& test) { return std::string(test.param); });

// More than this host has, in whole GiB; of it the guest touches next to nothing.
GuestOptions too_large() {
    const auto pages = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES));
    GuestOptions guest = small_guest();
    guest.memory = fmt::format("{}GiB", 2 * (pages * 4096 >> 30) + 2);
    return guest;
}

TEST(LargerThanTheHost, MovesBetweenAgentsThatOvercommit) {
    const AgentOptions overcommitting{.flags = {"--overcommit"}};
    TestAgent a(overcommitting), b(overcommitting);
    const GuestOptions guest = too_large();
    ASSERT_NO_FATAL_FAILURE(start_guest(a, guest));
    move_guest(a, b, guest.name);
    if (::testing::Test::HasFailure()) return;
    expect_alive_and_well(b, guest.name);
}

TEST(LargerThanTheHost, IsRefusedByAnAgentThatDoesNotOvercommit) {
    TestAgent a;
    const CommandResult started = a.cli({"vm", "start", write_vm_file(a, too_large())});
    EXPECT_EQ(started.exit_code, 3);
    EXPECT_THAT(started.err, ::testing::HasSubstr("--overcommit"));
}

json move_with_balloon(const std::string& extra) {
    TestAgent a, b;
    GuestOptions guest = small_guest();
    guest.extra = "balloon: true\n" + extra;
    start_guest(a, guest);
    std::vector<std::string> flags = kPatient;
    flags.insert(flags.end(), {"--tracker", "uffd-wp"});
    const CommandResult result = migrate_with(a, b, guest.name, flags);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    json report = json_of(result);
    EXPECT_EQ(report["tracker"], "uffd-wp");
    EXPECT_EQ(report["verify"]["mismatches"], 0);
    expect_alive_and_well(b, guest.name);
    return report;
}

TEST(Balloon, IsFollowedByTheResidentUnderUserfaultfdToo) {
    const json report = move_with_balloon("");
    EXPECT_TRUE(report["warnings"].empty()) << report["warnings"];
}

TEST(Balloon, WithoutTheResidentIsNamedInAWarning) {
    const json report = move_with_balloon("resident: false\n");
    ASSERT_EQ(report["warnings"].size(), 1U) << report["warnings"];
    EXPECT_THAT(report["warnings"][0].get<std::string>(),
                ::testing::MatchesRegex("balloon0.* gives memory back unseen: .*"));
}

}  // namespace
}  // namespace godwit::testing
