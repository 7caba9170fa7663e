#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

namespace godwit {
namespace {

TEST(UffdWriteProtectHugetlb, ReportsAWrittenHugePageAs512Pages) {
    if (const std::string reason = why_no_tracking(); !reason.empty()) GTEST_SKIP() << reason;
    constexpr Bytes kSize = 4 * kChunkBytes;
    const ReservedHugePages reserved(4);
    if (!reserved.enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    const auto ram = TrackedRam::create("hugetlbfs", "pagesize=2M", {kSize});
    if (!ram.ok()) GTEST_SKIP() << ram.status();
    ASSERT_EQ((*ram)->tell("write 0", {0, 512}), "fine");  // the others are not there yet
    const auto tracker = (*ram)->track();
    ASSERT_TRUE(tracker.ok()) << tracker.status();
    const absl::Status status = (*tracker)->start();
    ASSERT_TRUE(status.ok()) << status;
    const auto collect = [&] { return TrackedRam::collect(**tracker, (*ram)->empty_set()); };
    EXPECT_EQ(collect(), Pages{});
    ASSERT_EQ((*ram)->tell("write 0", {600, 1024 + 3}), "fine");
    const Pages written = collect();
    EXPECT_EQ(written.size(), 1024u);
    EXPECT_EQ(*written.begin(), 512u);
    EXPECT_EQ(*written.rbegin(), 1535u);
    EXPECT_EQ(collect(), Pages{});
    ASSERT_EQ((*ram)->tell("write 0", {512}), "fine");
    EXPECT_EQ(collect().size(), 512u);
    EXPECT_TRUE((*tracker)->stop().ok());
}

// The guest's view is another one: QEMU's is looked at where it is mapped, and nothing is armed.
TEST(UffdWriteProtectHugetlb, IsSkimmedThroughout) {
    if (const std::string reason = why_no_tracking(); !reason.empty()) GTEST_SKIP() << reason;
    constexpr Bytes kSize = 4 * kChunkBytes;
    const ReservedHugePages reserved(4);
    if (!reserved.enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    const auto ram = TrackedRam::create("hugetlbfs", "pagesize=2M", {kSize});
    if (!ram.ok()) GTEST_SKIP() << ram.status();
    ASSERT_EQ((*ram)->map_again(0, 0, kSize), "fine");
    ASSERT_EQ((*ram)->tell("write 0", {0, 512, 1024, 1536}), "fine");
    const auto tracker = (*ram)->track({.skim = true, .excluded_views = {(*ram)->where(0)}});
    ASSERT_TRUE(tracker.ok()) << tracker.status();
    ASSERT_TRUE((*tracker)->start().ok());
    const auto collect = [&] { return TrackedRam::collect(**tracker, (*ram)->empty_set()); };
    for (int round = 0; round < 3; ++round) {
        ASSERT_EQ((*ram)->tell("write 0", {3}), "fine");
        ASSERT_EQ((*ram)->tell("write 1", {600}), "fine");
        const Pages written = collect();
        EXPECT_EQ(written.size(), 512u);
        EXPECT_EQ(*written.begin(), 512u);
        EXPECT_EQ(collect(), Pages{});
    }
}

}  // namespace
}  // namespace godwit
