#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <random>

#include "dirty-tracking/attach/attach.h"
#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

namespace godwit {
namespace {

constexpr Bytes kPiecesBytes = 20 * kChunkBytes;  // more than one piece of every kind of call

// With each kind of tmpfs that RAM files live on.
class UffdWriteProtect : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_tracking(); !reason.empty()) GTEST_SKIP() << reason;
        make_ram({kPiecesBytes});
    }
    void make_ram(const std::vector<Bytes>& sizes) {
        auto ram = TrackedRam::create("tmpfs", std::string("size=128M,huge=") + GetParam(), sizes);
        ASSERT_TRUE(ram.ok()) << ram.status();
        ram_ = *std::move(ram);
    }
    void start() {
        auto tracker = ram_->track();
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        tracker_ = *std::move(tracker);
        const absl::Status status = tracker_->start();
        ASSERT_TRUE(status.ok()) << status;
    }
    void write(const Pages& pages, int view = 0) const {
        ASSERT_EQ(ram_->tell("write " + std::to_string(view), pages), "fine");
    }
    void fill(PageIndex begin, PageIndex end) const {
        Pages pages;
        for (PageIndex page = begin; page < end; ++page) pages.insert(pages.end(), page);
        write(pages);
    }
    Pages collect(size_t block = 0) const {
        return TrackedRam::collect(*tracker_, ram_->empty_set(), block);
    }
    static bool contains(const Pages& all, const Pages& some) {
        return std::includes(all.begin(), all.end(), some.begin(), some.end());
    }

    std::unique_ptr<TrackedRam> ram_;
    std::unique_ptr<UffdWriteProtectTracker> tracker_;
};

INSTANTIATE_TEST_SUITE_P(Tmpfs, UffdWriteProtect, testing::Values("never", "always"),
                         [](const auto& one) {
                             return std::string(one.param) == "never" ? "4k" : "huge";
                         });

TEST_P(UffdWriteProtect, ReportsAPageWrittenBetweenTwoCollectsOnce) {
    fill(0, 2048);
    start();
    EXPECT_EQ(collect(), Pages{});
    write({7, 600, 601});
    EXPECT_EQ(collect(), (Pages{7, 600, 601}));
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtect, ReportsExactlyTheWrittenPagesOfRandomSets) {
    fill(0, kPiecesBytes / kPageBytes);
    start();
    std::mt19937_64 random(1);
    for (int round = 0; round < 200; ++round) {
        Pages written;
        const size_t count = random() % 300;
        while (written.size() < count) written.insert(random() % (kPiecesBytes / kPageBytes));
        write(written);
        ASSERT_EQ(collect(), written) << "round " << round;
    }
}

TEST_P(UffdWriteProtect, NeverClearsABitOfTheSetItIsGiven) {
    fill(0, 512);
    start();
    PageSet dirty = ram_->empty_set();
    dirty[0].set(500);
    write({3});
    EXPECT_EQ(TrackedRam::collect(*tracker_, dirty), (Pages{3, 500}));
}

TEST_P(UffdWriteProtect, CallsEveryPageThatItReportsUnsettled) {
    fill(0, 512);
    start();
    write({3, 1000});
    PageSet dirty = ram_->empty_set();
    PageSet unsettled = dirty;
    unsettled[0].set(500);
    ASSERT_TRUE(tracker_->collect(dirty, unsettled).ok());
    EXPECT_TRUE(dirty[0].test(3) && dirty[0].test(1000) && !dirty[0].test(500));
    dirty[0].set(500);
    EXPECT_EQ(unsettled, dirty);
}

TEST_P(UffdWriteProtect, ReportsPagesOfChunksThatHadNoDataAtStart) {
    fill(0, 512);
    start();
    write({1000, 2000});
    // A huge page holds data as a whole.
    const Pages fresh = collect();
    EXPECT_TRUE(contains(fresh, {1000, 2000}));
    EXPECT_EQ(fresh.size(), std::string(GetParam()) == "never" ? 2u : 1024u);
    EXPECT_EQ(collect(), Pages{});
    write({1000, 1001});
    EXPECT_EQ(collect(), (Pages{1000, 1001}));
}

TEST_P(UffdWriteProtect, ReportsAFirstWriteToAnArmedChunk) {
    write({0});
    start();
    write({5, 511});
    EXPECT_EQ(collect(), (Pages{5, 511}));
}

TEST_P(UffdWriteProtect, ReportsWritesToPagesThatAreCachedButNotMapped) {
    const std::vector<char> content(kChunkBytes, 'x');
    ASSERT_TRUE(
        write_fully(ram_->blocks[0].file.get(), content.data(), content.size(), kChunkBytes).ok());
    start();
    write({512, 700});
    EXPECT_EQ(collect(), (Pages{512, 700}));
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtect, DoesNotReportReads) {
    fill(0, 1024);
    start();
    ASSERT_EQ(ram_->tell("read 0", {0, 1, 600}), "fine");
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtect, ReportsWritesThroughEveryView) {
    fill(0, 2048);
    ASSERT_EQ(ram_->map_again(0, 0, kPiecesBytes), "fine");
    ASSERT_EQ(ram_->map_again(0, kChunkBytes, 2 * kChunkBytes), "fine");
    start();
    write({1}, 0);
    write({2}, 1);
    write({3}, 2);  // page 3 of a view that begins at page 512
    EXPECT_EQ(collect(), (Pages{1, 2, 515}));
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtect, KeepsSeveralBlocksApart) {
    make_ram({kPiecesBytes, 2 * kChunkBytes});
    fill(0, 512);
    write({0, 1, 1023}, 1);
    start();
    write({4}, 0);
    write({1023}, 1);
    PageSet dirty = ram_->empty_set();
    ASSERT_TRUE(tracker_->collect(dirty, dirty).ok());
    EXPECT_EQ(dirty[0].next_set(0), 4u);
    EXPECT_EQ(dirty[1].next_set(0), 1023u);
    EXPECT_EQ(count_pages(dirty), 2u);
}

TEST_P(UffdWriteProtect, ReportsAPunchedPageThatIsWrittenAgain) {
    fill(0, 1024);
    start();
    ASSERT_EQ(ram_->tell("punch " + ram_->blocks[0].path + " 0 512"), "fine");
    (void)collect();
    write({9});
    EXPECT_TRUE(contains(collect(), {9}));
}

TEST_P(UffdWriteProtect, KeepsAWriteWhoseHugePageIsSplitByAPunchOfItsNeighbour) {
    fill(0, 1024);
    start();
    write({9, 300});
    ASSERT_EQ(ram_->tell("punch " + ram_->blocks[0].path + " 100 1"), "fine");
    EXPECT_TRUE(contains(collect(), {9, 300}));
}

TEST_P(UffdWriteProtect, GoesOnWhenTheAnswerOfAScanIsFull) {
    fill(0, 2048);
    auto attachment = attach_userfaultfd(ram_->writer->pid(), {});
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    for (const size_t regions : {1, 2, 7, 256, 512}) {
        auto tracker = UffdWriteProtectTracker::create_with(
            ram_->writer->pid(), ram_->blocks,
            UniqueFd(::fcntl(attachment->userfaultfd.get(), F_DUPFD_CLOEXEC, 0)),
            {.region_limit = regions});
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        ASSERT_TRUE((*tracker)->start().ok());
        Pages written;
        for (PageIndex page = 0; page < 2048; page += 2) written.insert(page);
        write(written);
        EXPECT_EQ(TrackedRam::collect(**tracker, ram_->empty_set()), written) << regions;
        EXPECT_EQ(TrackedRam::collect(**tracker, ram_->empty_set()), Pages{}) << regions;
    }
}

TEST_P(UffdWriteProtect, StartsAgainAfterStop) {
    fill(0, 1024);
    start();
    ASSERT_TRUE(tracker_->stop().ok());
    write({1});
    PageSet dirty = ram_->empty_set();
    EXPECT_TRUE(absl::IsFailedPrecondition(tracker_->collect(dirty, dirty)));
    ASSERT_TRUE(tracker_->start().ok());
    EXPECT_EQ(collect(), Pages{});
    write({2});
    EXPECT_EQ(collect(), Pages{2});
    EXPECT_TRUE(tracker_->stop().ok());
    EXPECT_TRUE(tracker_->stop().ok());
}

TEST_P(UffdWriteProtect, GoesOnFromAnAgentThatDied) {
    fill(0, 1024);
    const pid_t agent = ::fork();
    ASSERT_GE(agent, 0);
    if (agent == 0) {
        auto tracker = ram_->track();
        if (!tracker.ok() || !(*tracker)->start().ok()) ::_exit(1);
        ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ASSERT_EQ(::waitpid(agent, &status, 0), agent);
    ASSERT_TRUE(WIFSIGNALED(status));
    write({100});
    start();
    EXPECT_EQ(tracker_->attach_hold().count(), 0) << "a second userfaultfd was made";
    EXPECT_EQ(collect(), Pages{});
    write({101});
    EXPECT_EQ(collect(), Pages{101});
}

// Post-copy uses the same descriptor: a mode of it that stayed would block the guest for ever.
TEST_P(UffdWriteProtect, ForgetsTheModesOfAnEarlierRegistration) {
    fill(0, 512);
    auto attachment = attach_userfaultfd(ram_->writer->pid(), {});
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    const RamBlock& block = ram_->blocks[0];
    const auto mappings =
        find_ram_mappings(ram_->writer->pid(), {block.name, block.device, block.inode, block.size});
    ASSERT_TRUE(mappings.ok()) << mappings.status();
    uffdio_register argument{
        .range = {.start = mappings->front().address, .len = mappings->front().length},
        .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP};
    ASSERT_EQ(::ioctl(attachment->userfaultfd.get(), UFFDIO_REGISTER, &argument), 0);
    start();
    write({1500});  // missing: nobody would answer
    EXPECT_TRUE(contains(collect(), {1500}));
}

TEST_P(UffdWriteProtect, LeavesTheMappingWholeAfterStop) {
    fill(0, kPiecesBytes / kPageBytes);
    for (int i = 0; i < 3; ++i) {
        start();
        ASSERT_TRUE(tracker_->stop().ok());
    }
    const RamBlock& block = ram_->blocks[0];
    const auto mappings =
        find_ram_mappings(ram_->writer->pid(), {block.name, block.device, block.inode, block.size});
    ASSERT_TRUE(mappings.ok()) << mappings.status();
    EXPECT_EQ(mappings->size(), 1u) << "pieces of it were not merged again";
}

TEST_P(UffdWriteProtect, OfAProcessThatDiedIsNotFoundAndEverythingIsDirty) {
    fill(0, 512);
    start();
    ram_->writer->kill_and_reap();
    PageSet dirty = ram_->empty_set();
    EXPECT_TRUE(absl::IsNotFound(tracker_->collect(dirty, dirty)));
    EXPECT_EQ(dirty[0].count(), ram_->blocks[0].page_count());
    EXPECT_TRUE(tracker_->stop().ok());
    EXPECT_TRUE(absl::IsNotFound(tracker_->start()));
}

TEST_P(UffdWriteProtect, FailsWhenTheMemoryWasMappedAnew) {
    fill(0, 512);
    start();
    ASSERT_EQ(ram_->tell("unmap"), "fine");
    PageSet dirty = ram_->empty_set();
    EXPECT_TRUE(absl::IsFailedPrecondition(tracker_->collect(dirty, dirty)));
    EXPECT_EQ(dirty[0].count(), ram_->blocks[0].page_count());
}

TEST_P(UffdWriteProtect, RefusesAPageSetOfAnotherShape) {
    start();
    PageSet none;
    EXPECT_TRUE(absl::IsInvalidArgument(tracker_->collect(none, none)));
    PageSet small{PageBitmap(1)};
    EXPECT_TRUE(absl::IsInvalidArgument(tracker_->collect(small, small)));
    PageSet right = ram_->empty_set();
    EXPECT_TRUE(absl::IsInvalidArgument(tracker_->collect(right, small)));
}

TEST_P(UffdWriteProtect, SaysWhoElseHasTheMemory) {
    fill(0, 512);
    start();
    ASSERT_TRUE(tracker_->stop().ok());
    // A second userfaultfd of the same process, as QEMU's own snapshot would make one.
    ASSERT_EQ(ram_->tell("steal 0"), "fine");
    const absl::Status status = tracker_->start();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(status.message().find("another userfaultfd"), std::string::npos) << status;
}

}  // namespace
}  // namespace godwit
