// A guest's view that is not tracked and QEMU's that is, both written at once and never at rest: no
// write through QEMU's is lost, whatever the kernel does with huge pages meanwhile.
#include <fcntl.h>
#include <gtest/gtest.h>

#include <random>

#include "engine/base/hash.h"
#include "tests/unit/dirty-tracking/writeprotect/copier.h"
#include "tests/unit/dirty-tracking/writeprotect/tracked_ram.h"

namespace godwit {
namespace {

constexpr Bytes kSize = 4 * kChunkBytes;
constexpr PageIndex kPageCount = kSize / kPageBytes;
constexpr int kSchedules = 300;  // a case

struct Schedule {
    Pages guest;  // where the guest writes through view 0
    Pages qemu;   // and QEMU through view 1: others, in the same chunks
    Pages before_start;
    int rounds = 0;
    bool collapses = false;
    bool punches = false;
};

Schedule make_schedule(std::mt19937_64& random) {
    Schedule schedule;
    const size_t count = 1 + random() % 64;
    const PageIndex span = random() % 2 == 0 ? kPageCount : kPagesPerChunk;
    while (schedule.guest.size() < count) schedule.guest.insert(random() % span);
    while (schedule.qemu.size() < count) {
        const PageIndex page = random() % span;
        if (!schedule.guest.contains(page)) schedule.qemu.insert(page);
    }
    for (const PageIndex page : schedule.qemu)
        if (random() % 4 == 0) schedule.before_start.insert(page);
    schedule.rounds = static_cast<int>(random() % 5);
    schedule.collapses = random() % 4 == 0;
    schedule.punches = random() % 3 == 0;
    return schedule;
}

class UffdWriteProtectSkimProperty : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_tracking(); !reason.empty()) GTEST_SKIP() << reason;
        auto ram =
            TrackedRam::create("tmpfs", std::string("size=64M,noswap,huge=") + GetParam(), {kSize});
        if (!ram.ok()) GTEST_SKIP() << ram.status();
        ram_ = *std::move(ram);
        ASSERT_EQ(ram_->map_again(0, 0, kSize), "fine");
        auto tracker = ram_->track({.skim = true, .excluded_views = {ram_->where(0)}});
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        tracker_ = *std::move(tracker);
        copier_.emplace(ram_->blocks[0]);
    }

    void punch(PageIndex page, uint64_t count) const {
        EXPECT_EQ(
            ::fallocate(ram_->blocks[0].file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                        static_cast<off_t>(page * kPageBytes),
                        static_cast<off_t>(count * kPageBytes)),
            0);
    }
    // A discard of QEMU: the resident tells of the 2 MiB around it.
    void discard(PageIndex page, PageBitmap& told) const {
        punch(page, 1);
        const PageIndex chunk = page / kPagesPerChunk;
        told.set_range({chunk * kPagesPerChunk, (chunk + 1) * kPagesPerChunk});
    }

    // The page of QEMU's that was lost, or none.
    std::optional<PageIndex> run(uint64_t seed) {
        std::mt19937_64 random(seed);
        const Schedule schedule = make_schedule(random);
        punch(0, kPageCount);
        EXPECT_EQ(ram_->tell("write 0", schedule.guest), "fine");
        if (schedule.collapses) punch(kPageCount - 1, 1);
        EXPECT_EQ(ram_->tell("write 1", schedule.before_start), "fine");
        EXPECT_EQ(ram_->tell("run 0 " + std::to_string(seed), schedule.guest), "fine");
        const auto let_qemu_run = [&] {
            EXPECT_EQ(ram_->tell("run 1 " + std::to_string(seed + 1), schedule.qemu), "fine");
        };
        const bool early = random() % 2 == 0;
        if (early) let_qemu_run();
        EXPECT_TRUE(tracker_->start().ok());
        if (!early) let_qemu_run();
        EXPECT_TRUE(copier_->copy_all());
        for (int round = 0; round < schedule.rounds; ++round) {
            PageBitmap told(kPageCount);
            if (schedule.punches) discard(random() % kPageCount, told);
            if (schedule.collapses) (void)ram_->tell("collapse 0");
            EXPECT_TRUE(copier_->round(*tracker_, Order::kRightArmThenRead, &told));
        }
        EXPECT_EQ(ram_->tell("halt"), "fine");
        EXPECT_TRUE(copier_->round(*tracker_, Order::kRightArmThenRead));
        return copier_->first_difference(
            [&](PageIndex page, const char*) { return !schedule.qemu.contains(page); });
    }

    std::unique_ptr<TrackedRam> ram_;
    std::unique_ptr<UffdWriteProtectTracker> tracker_;
    std::optional<Copier> copier_;
};

TEST_P(UffdWriteProtectSkimProperty, LosesNoWriteOfItsView) {
    for (uint64_t seed = 1; seed <= kSchedules; ++seed) {
        const auto lost = run(seed);
        ASSERT_FALSE(lost.has_value()) << "seed " << seed << " lost a write to page " << *lost;
        ASSERT_FALSE(HasFailure()) << "seed " << seed;
    }
}

INSTANTIATE_TEST_SUITE_P(Tmpfs, UffdWriteProtectSkimProperty, testing::Values("never", "always"),
                         [](const auto& one) {
                             return std::string(one.param) == "never" ? "4k" : "huge";
                         });

}  // namespace
}  // namespace godwit
