// Unsettled pages: a read with O_DIRECT pins its page at submission, which the tracker sees, and
// writes it at completion, which no tracker sees. On a slow disk the two lie rounds apart.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/harness/disk_throttle.h"
#include "tests/harness/ending.h"
#include "tests/harness/guest.h"
#include "tests/harness/moving.h"

namespace godwit::testing {
namespace {

using nlohmann::json;

// 32 reads in flight then take 16 ms each: longer than a round over few pages.
constexpr uint64_t kReadBytesPerS = 8'000'000;
constexpr const char* kVm = "vm";

// Never fits, so all the rounds are gone through.
const std::vector<std::string> kSixteenRounds = {
    "--downtime-limit", "1ms",        "--max-rounds",     "16",
    "--max-data",       "1000x",      "--on-no-converge", "stop-and-copy"};

class SlowDirectDisk : public ::testing::TestWithParam<const char*> {
  protected:
    // The pool is so large that a page is not read into twice within a migration: what is lost
    // once stays lost.
    void start() {
        const std::string accel = GetParam();
        if (const std::string reason = missing(accel); !reason.empty()) GTEST_SKIP() << reason;
        const std::string disk = make_guest_disk(a, "64MiB");
        auto made = DiskThrottle::create(disk, kReadBytesPerS);
        if (!made.ok()) GTEST_SKIP() << made.status();
        throttle = std::move(*made);
        start_guest(a,
                    {.accel = accel,
                     .append = "ws=8M rate=1000 disk=on dma=32M diskdepth=32",
                     .extra = fmt::format("disks: [{{path: {}, format: raw, cache: none}}]\n",
                                          disk)});
        if (HasFatalFailure()) return;
        slow_down(a);
        expect_disk_goes_on(a);
    }

    void slow_down(TestAgent& agent) {
        const absl::Status added = throttle->add(agent.qemu_pid(kVm));
        EXPECT_TRUE(added.ok()) << added;
    }

    static void expect_disk_goes_on(TestAgent& agent) {
        const uint64_t before = testimony(agent, kVm).disk_reads;
        EXPECT_TRUE(eventually(std::chrono::seconds(30), [&] {
            return testimony(agent, kVm).disk_reads > before + 1000;
        })) << "no more reads";
        expect_alive_and_well(agent, kVm);
    }

    std::unique_ptr<DiskThrottle> throttle;  // outlives the QEMUs in it
    TestAgent a, b;
};

TEST_P(SlowDirectDisk, LosesNoPageInSixteenRounds) {
    start();
    if (IsSkipped() || HasFatalFailure()) return;
    for (int trip = 0; trip < 2; ++trip) {
        EXPECT_GE(move_guest(a, b, kVm, kSixteenRounds)["rounds"].size(), 16U);
        slow_down(b);
        expect_disk_goes_on(b);
        EXPECT_GE(move_guest(b, a, kVm, kSixteenRounds)["rounds"].size(), 16U);
        slow_down(a);
        expect_disk_goes_on(a);
    }
}

// The test above can fail: without the unsettled set the pages in flight at each collect are lost.
TEST_P(SlowDirectDisk, LosesPagesWithoutTheUnsettledSetAndVerifyFindsThem) {
    a.restart({.flags = {"--unsafe-no-unsettled"}});
    start();
    if (IsSkipped() || HasFatalFailure()) return;
    const CommandResult result = migrate_with(a, b, kVm, kSixteenRounds);
    expect_at_source(a, result, {.exit_code = 1, .outcome = "failed", .words = {"Verify found"}});
    const json report = json_of(result);
    const int mismatches = report["verify"]["mismatches"].get<int>();
    std::printf("%d pages lost in %zu rounds\n", mismatches, report["rounds"].size());
    EXPECT_GT(mismatches, 0);
    expect_nothing_left(b, kVm);
    expect_disk_goes_on(a);
}

INSTANTIATE_TEST_SUITE_P(Accelerators, SlowDirectDisk, ::testing::Values("kvm", "tcg"),
                         [](const auto& test) { return std::string(test.param); });

}  // namespace
}  // namespace godwit::testing
