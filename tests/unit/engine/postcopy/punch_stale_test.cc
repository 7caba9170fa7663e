#include "engine/postcopy/punch_stale.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/engine/postcopy/fault_ram.h"

namespace godwit {
namespace {

class PunchStale : public ::testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
        auto ram = FaultRam::create("tmpfs", "size=64M,huge=" + std::string(GetParam()),
                                    2 * kChunkBytes, 1);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
    }
    const RamBlock& block() { return ram_->blocks[0]; }

    std::unique_ptr<FaultRam> ram_;
    PunchTotals totals_;
};

TEST_P(PunchStale, TakesOutThesePagesAndNoOthers) {
    ram_->write_content(1);
    const ChunkMask stale = some_pages({0, 1, 2, 63, 64, 200, 511});
    ASSERT_TRUE(punch_stale(block(), 1, stale, totals_).ok());
    for (PageIndex page = 0; page < 1024; ++page) {
        const bool gone = page >= 512 && (stale[page % 512 / 64] >> (page % 64) & 1) != 0;
        ASSERT_EQ(ram_->is_present(page), !gone) << page;
    }
    EXPECT_EQ(totals_.call_count, 4u);
    EXPECT_EQ(totals_.run_count, 4u);
    EXPECT_EQ(totals_.stale_pages, 7u);
    EXPECT_EQ(totals_.absent_runs, 0u);
    ASSERT_TRUE(punch_stale(block(), 1, stale, totals_).ok());
    EXPECT_EQ(totals_.call_count, 4u);  // nothing is there: nothing is called
    EXPECT_EQ(totals_.absent_runs, 4u);
    EXPECT_TRUE(absl::IsInvalidArgument(punch_stale(block(), 2, stale, totals_)));
}

// A page that is pinned belongs to its folio; of a huge one the kernel keeps all 512.
TEST_P(PunchStale, NoticesAPageThatStaysThough) {
    ram_->write_content(1);
    const auto mapping = Mapping::map_shared(block().file.get(), block().size);
    ASSERT_TRUE(mapping.ok());
    std::array<int, 2> pipe{};
    ASSERT_EQ(::pipe2(pipe.data(), O_CLOEXEC), 0);
    UniqueFd out(pipe[0]);
    UniqueFd in(pipe[1]);
    iovec pinned{.iov_base = mapping->data() + 5 * kPageBytes, .iov_len = kPageBytes};
    ASSERT_EQ(::vmsplice(in.get(), &pinned, 1, 0), static_cast<ssize_t>(kPageBytes));
    const absl::Status status = punch_stale(block(), 0, one_page(9), totals_);
    if (block().backing == Backing::kTmpfsHuge) {
        EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
        EXPECT_NE(status.message().find("page 9 "), std::string::npos) << status;
        EXPECT_GT(totals_.retry_count, 0u);
        out.reset();
        in.reset();  // the reference goes with the pipe
        ASSERT_TRUE(punch_stale(block(), 0, one_page(9), totals_).ok());
    } else {
        EXPECT_TRUE(status.ok()) << status;
    }
    EXPECT_FALSE(ram_->is_present(9));
    EXPECT_TRUE(ram_->is_present(10));
}

INSTANTIATE_TEST_SUITE_P(Tmpfs, PunchStale, ::testing::Values("never", "always"),
                         [](const auto& test_case) { return std::string(test_case.param); });

TEST(PunchStaleHugetlb, TakesWholeHugePages) {
    if (const std::string reason = why_no_faults(); !reason.empty()) GTEST_SKIP() << reason;
    const ReservedHugePages reserved(2);
    if (!reserved.enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    const auto ram = FaultRam::create("hugetlbfs", "pagesize=2M", 2 * kChunkBytes, 1);
    if (!ram.ok()) GTEST_SKIP() << ram.status();
    ASSERT_TRUE((*ram)->memory->unregister_all().ok());
    const auto mapping = Mapping::map_shared((*ram)->blocks[0].file.get(), 2 * kChunkBytes);
    ASSERT_TRUE(mapping.ok());
    std::fill(mapping->bytes().begin(), mapping->bytes().end(), std::byte{7});
    PunchTotals totals;
    ASSERT_TRUE(punch_stale((*ram)->blocks[0], 1, one_page(100), totals).ok());
    EXPECT_EQ(totals.stale_pages, 512u);
    EXPECT_EQ(totals.call_count, 1u);
    EXPECT_EQ(mapping->bytes()[kChunkBytes], std::byte{0});
    EXPECT_EQ(mapping->bytes()[kChunkBytes - 1], std::byte{7});
    EXPECT_EQ(whole_granules((*ram)->blocks[0], {}), ChunkMask{});
}

}  // namespace
}  // namespace godwit
