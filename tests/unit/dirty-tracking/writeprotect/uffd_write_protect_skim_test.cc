// A view that is seldom written through (QEMU's, when the guest has another one): what skimming
// finds, and what it can't see.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "dirty-tracking/attach/attach.h"
#include "dirty-tracking/writeprotect/swap.h"
#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

namespace godwit {
namespace {

constexpr Bytes kSkimBytes = 8 * kChunkBytes;
constexpr PageIndex kPageCount = kSkimBytes / kPageBytes;
constexpr int kGuest = 0;  // the view that is not tracked
constexpr int kQemu = 1;   // the view that is

class UffdWriteProtectSkim : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_tracking(); !reason.empty()) GTEST_SKIP() << reason;
        make_ram(",noswap");
    }
    void make_ram(const std::string& options) {
        auto ram = TrackedRam::create("tmpfs", std::string("size=64M,huge=") + GetParam() + options,
                                      {kSkimBytes});
        if (!ram.ok()) GTEST_SKIP() << ram.status();
        ram_ = *std::move(ram);
        ASSERT_EQ(ram_->map_again(0, 0, kSkimBytes), "fine");
        Pages all;
        for (PageIndex page = 0; page < kPageCount; ++page) all.insert(all.end(), page);
        write(all, kGuest);
    }
    // With counters that stand still, whatever this host does meanwhile.
    void start() {
        start_with([] { return absl::StatusOr<uint64_t>(1); });
    }
    void start_with(std::function<absl::StatusOr<uint64_t>()> events) {
        auto tracker = ram_->track({.skim = true,
                                    .excluded_views = {ram_->where(kGuest)},
                                    .views_are_witnesses = views_are_witnesses_,
                                    .huge_page_events = std::move(events)});
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        tracker_ = *std::move(tracker);
        const absl::Status status = tracker_->start();
        ASSERT_TRUE(status.ok()) << status;
    }
    void write(const Pages& pages, int view = kQemu) const {
        ASSERT_EQ(ram_->tell("write " + std::to_string(view), pages), "fine");
    }
    void punch(PageIndex page) const {
        const std::string what = ram_->blocks[0].path + " " + std::to_string(page) + " 1";
        ASSERT_EQ(ram_->tell("punch " + what), "fine");
    }
    Pages collect() const { return TrackedRam::collect(*tracker_, ram_->empty_set()); }
    static bool contains(const Pages& all, const Pages& some) {
        return std::includes(all.begin(), all.end(), some.begin(), some.end());
    }
    static bool huge() { return std::string(GetParam()) == "always"; }

    bool views_are_witnesses_ = false;
    std::unique_ptr<TrackedRam> ram_;
    std::unique_ptr<UffdWriteProtectTracker> tracker_;
};

INSTANTIATE_TEST_SUITE_P(Tmpfs, UffdWriteProtectSkim, testing::Values("never", "always"),
                         [](const auto& one) {
                             return std::string(one.param) == "never" ? "4k" : "huge";
                         });

TEST_P(UffdWriteProtectSkim, ReportsItsViewOnly) {
    start();
    EXPECT_EQ(collect(), Pages{});
    write({5, 600}, kGuest);
    EXPECT_EQ(collect(), Pages{});
    write({5, 600}, kQemu);
    EXPECT_TRUE(contains(collect(), {5, 600}));
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtectSkim, IsExactInAChunkFromItsSecondReportOn) {
    start();
    write({5, 700});
    EXPECT_EQ(collect().size(), huge() ? 1024U : 2U);
    write({6, 1023});
    EXPECT_EQ(collect(), (Pages{6, 1023}));
    write({6, 7});
    EXPECT_EQ(collect(), (Pages{6, 7}));
}

TEST_P(UffdWriteProtectSkim, DoesNotReportWhatWasWrittenBeforeTheStart) {
    write({5, 700});
    start();
    EXPECT_EQ(collect(), Pages{});
    write({700});
    EXPECT_TRUE(contains(collect(), {700}));
}

TEST_P(UffdWriteProtectSkim, ReportsAWriteWhoseTraceWentWhenACollapseIsCounted) {
    punch(1);  // small pages, which a collapse unmaps
    uint64_t events = 7;
    start_with([&events] { return absl::StatusOr<uint64_t>(events); });
    write({5, 700});
    ASSERT_EQ(ram_->tell("collapse 0"), "fine");
    ++events;
    EXPECT_TRUE(contains(collect(), {5, 700}));
    // From now on the marks are there.
    write({6, 701});
    ASSERT_EQ(ram_->tell("collapse 0"), "fine");
    EXPECT_TRUE(contains(collect(), {6, 701}));
    write({8});
    EXPECT_EQ(collect(), Pages{8});
}

// As the resident has it: the guest's view maps huge pages as such until one is taken apart.
TEST_P(UffdWriteProtectSkim, ReportsAfterAnEventOnlyWhatTheOtherViewDoesNotMapAsAWhole) {
    ASSERT_EQ(ram_->tell("apart 0"), "fine");
    ASSERT_EQ(ram_->tell("apart 1"), "fine");
    uint64_t events = 7;
    views_are_witnesses_ = true;
    start_with([&events] { return absl::StatusOr<uint64_t>(events); });
    ++events;  // on this host, but not here
    EXPECT_EQ(collect(), Pages{});
    write({600});
    punch(700);  // in the same huge page: no trace is left of the write
    ++events;
    const Pages found = collect();
    EXPECT_TRUE(contains(found, {600}));
    EXPECT_FALSE(contains(found, {5})) << "of another huge page";
    EXPECT_FALSE(contains(found, {1024})) << "of another huge page";
    write({5});
    EXPECT_TRUE(contains(collect(), {5}));
    ++events;
    EXPECT_EQ(collect(), Pages{});
}

TEST_P(UffdWriteProtectSkim, SeesACollapseInTheCountersOfTheHost) {
    start_with({});
    punch(1);
    write({5});
    ASSERT_EQ(ram_->tell("collapse 0"), "fine");
    EXPECT_TRUE(contains(collect(), {5}));
}

// This is what makes the resident report the 2 MiB around a discard.
TEST_P(UffdWriteProtectSkim, LosesAFirstWriteBesideADiscardOnHugePagesOnly) {
    start();
    write({5});
    punch(100);
    EXPECT_EQ(collect(), huge() ? Pages{} : Pages{5});
    write({513});
    (void)collect();
    write({514});
    punch(1000);
    EXPECT_TRUE(contains(collect(), {514})) << "an armed chunk keeps its marks";
}

TEST_P(UffdWriteProtectSkim, SeesADiscardThatSplitsAHugePageInTheCountersOfTheHost) {
    start_with({});
    write({5});
    punch(100);
    EXPECT_TRUE(contains(collect(), {5}));
}

TEST_P(UffdWriteProtectSkim, DoesNotSkimRamThatCanBeSwappedOut) {
    make_ram("");
    start();
    write({5, 600});
    EXPECT_EQ(collect(), (Pages{5, 600}));  // also on huge pages: they were armed at the start
    write({6});
    punch(100);
    EXPECT_TRUE(contains(collect(), {6}));
}

TEST_P(UffdWriteProtectSkim, ArmsEverythingWithoutCounters) {
    bool broken = false;
    start_with([&broken]() -> absl::StatusOr<uint64_t> {
        if (broken) return absl::UnavailableError("no counters");
        return 1;
    });
    write({5});
    broken = true;
    EXPECT_EQ(collect().size(), kPageCount);
    write({6});
    EXPECT_EQ(collect(), Pages{6});
}

TEST_P(UffdWriteProtectSkim, GoesOnWhenTheAnswerOfAScanIsFull) {
    auto attachment = attach_userfaultfd(ram_->writer->pid(), {});
    ASSERT_TRUE(attachment.ok()) << attachment.status();
    auto tracker = UffdWriteProtectTracker::create_with(
        ram_->writer->pid(), ram_->blocks, std::move(attachment->userfaultfd),
        {.skim = true,
         .excluded_views = {ram_->where(kGuest)},
         .region_limit = 2,
         .huge_page_events = [] { return absl::StatusOr<uint64_t>(1); }});
    ASSERT_TRUE(tracker.ok()) << tracker.status();
    ASSERT_TRUE((*tracker)->start().ok());
    Pages written;
    for (PageIndex page = 0; page < kPageCount; page += 2) written.insert(page);
    for (int round = 0; round < 2; ++round) {
        write(written);
        EXPECT_TRUE(contains(TrackedRam::collect(**tracker, ram_->empty_set()), written));
        EXPECT_EQ(TrackedRam::collect(**tracker, ram_->empty_set()), Pages{});
    }
}

TEST(Swap, IsOutOfTheQuestionForNoswapTmpfsAlone) {
    for (const auto& [options, expected] :
         {std::pair{"size=4M,noswap", false}, std::pair{"size=4M", true}}) {
        auto mount = PrivateMount::create("tmpfs", options);
        if (!mount.ok()) GTEST_SKIP() << mount.status();
        const UniqueFd file(
            ::open((mount->path() + "/ram").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
        struct stat about {};
        ASSERT_EQ(::fstat(file.get(), &about), 0);
        EXPECT_EQ(can_be_swapped(file.get(), about.st_dev), expected) << options;
    }
}

}  // namespace
}  // namespace godwit
