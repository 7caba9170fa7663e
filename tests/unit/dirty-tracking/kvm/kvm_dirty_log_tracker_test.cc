#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"

#include "tests/unit/dirty-tracking/kvm/tracked_vm.h"

namespace godwit {
namespace {

constexpr Bytes kSize = 8 * kChunkBytes;
constexpr PageIndex kPageCount = kSize / kPageBytes;

Pages pages_of(const PageBitmap& bitmap) {
    Pages pages;
    bitmap.for_each_run([&pages](PageRange run) {
        for (PageIndex page = run.begin; page < run.end; ++page) pages.insert(page);
    });
    return pages;
}

class KvmDirtyLogTrackerTest : public TrackedVm {
  protected:
    struct Collected {
        Pages dirty;
        Pages unsettled;
    };
    Collected collect() {
        PageSet dirty = vm_->empty_set();
        PageSet unsettled = vm_->empty_set();
        const absl::Status status = tracker_->collect(dirty, unsettled);
        EXPECT_TRUE(status.ok()) << status;
        return {pages_of(dirty[0]), pages_of(unsettled[0])};
    }
    void rearm(PageRange range = {0, kPageCount}) {
        const absl::Status status = tracker_->rearm(0, range);
        EXPECT_TRUE(status.ok()) << status;
    }
};

TEST_F(KvmDirtyLogTrackerTest, ReportsWhatTheGuestAndQemuWrote) {
    make_vm(kSize, "never");
    start();
    EXPECT_EQ(collect().dirty, Pages{});
    guest_writes({5, 700, 2048});
    qemu_writes({9, 700});
    const Collected found = collect();
    EXPECT_EQ(found.dirty, (Pages{5, 9, 700, 2048}));
    EXPECT_EQ(found.unsettled, (Pages{9, 700}));
    rearm();
    EXPECT_EQ(collect().dirty, Pages{});
}

TEST_F(KvmDirtyLogTrackerTest, ReportsGuestPagesOf4KibOnHugeMemory) {
    make_vm(kSize, "always");
    guest_writes(range_of(0, kPageCount));
    start();
    guest_writes({5, 700});
    const Collected found = collect();
    EXPECT_EQ(found.dirty, (Pages{5, 700}));
    EXPECT_EQ(found.unsettled, Pages{});
}

TEST_F(KvmDirtyLogTrackerTest, ReportsAPageAgainUntilItIsArmedAgain) {
    make_vm(kSize, "never");
    start();
    guest_writes({5});
    EXPECT_EQ(collect().dirty, Pages{5});
    EXPECT_EQ(collect().dirty, Pages{5});
    rearm({5, 6});
    EXPECT_EQ(collect().dirty, Pages{});
    guest_writes({5});
    EXPECT_EQ(collect().dirty, Pages{5});
}

TEST_F(KvmDirtyLogTrackerTest, ReportsAWriteBehindTheArmingOfItsWindow) {
    make_vm(kSize, "never");
    start();
    guest_writes({5, 6});
    EXPECT_EQ(collect().dirty, (Pages{5, 6}));
    rearm({5, 6});  // the window holds page 6 as well
    guest_writes({6});
    rearm({6, 7});
    EXPECT_EQ(collect().dirty, Pages{6});
}

TEST_F(KvmDirtyLogTrackerTest, ReportsDiscards) {
    make_vm(kSize, "never");
    guest_writes({600});
    start();
    ASSERT_EQ(vm_->tell("punch " + vm_->blocks[0].path + " 600 1"), "fine");
    EXPECT_TRUE(collect().dirty.contains(600));
}

TEST_F(KvmDirtyLogTrackerTest, ReportsTheWholeOfASlotThatIsMadeAnew) {
    make_vm(kSize, "never");
    start();
    ASSERT_EQ(vm_->remove_slot(1), "fine");
    ASSERT_EQ(vm_->slot(1, kGuestPage, 0, {0, kPageCount}), "fine");
    EXPECT_EQ(collect().dirty.size(), kPageCount);
    rearm();
    (void)collect();
    rearm();
    guest_writes({7});
    qemu_writes({8});
    EXPECT_EQ(collect().dirty, (Pages{7, 8}));
}

// A slot that spans two files, as no second mapping can: KVM has QEMU's own.
TEST_F(KvmDirtyLogTrackerTest, NamesASlotThatIsNoPieceOfOneFileAndStillSeesItsWrites) {
    make_vm(kChunkBytes, "never");
    const std::string path = vm_->mount.path() + "/two";
    ASSERT_EQ(vm_->tell("pair " + path + "0 " + path + "1 " + std::to_string(kChunkBytes)), "fine");
    for (const char* half : {"0", "1"}) {
        auto block = open_ram_block("two", path + half, Backing::kTmpfs4k);
        ASSERT_TRUE(block.ok()) << block.status();
        vm_->blocks.push_back(*std::move(block));
    }
    const PageIndex pair_page = 2 * kGuestPage;
    ASSERT_EQ(vm_->slot(7, pair_page, 1, {0, 2 * kPagesPerChunk}), "fine");
    start();
    const std::vector<std::string> warnings = tracker_->warnings();
    ASSERT_EQ(warnings.size(), 1u);
    EXPECT_NE(warnings[0].find("slot 7 (4 MiB at guest address 0x8000000)"), std::string::npos)
        << warnings[0];
    EXPECT_NE(warnings[0].find("uffd-wp"), std::string::npos) << warnings[0];
    ASSERT_EQ(vm_->write({pair_page + 511, pair_page + 512}), "fine");
    PageSet dirty = vm_->empty_set();
    ASSERT_TRUE(tracker_->collect(dirty, dirty).ok());
    EXPECT_TRUE(pages_of(dirty[1]).contains(511));
    EXPECT_TRUE(pages_of(dirty[2]).contains(0));
}

TEST_F(KvmDirtyLogTrackerTest, HasNothingToWarnOfWhereEachSlotIsAPieceOfAFile) {
    make_vm(kSize, "never");
    start();
    EXPECT_EQ(tracker_->warnings(), std::vector<std::string>{});
}

TEST_F(KvmDirtyLogTrackerTest, StartsAgainAfterStop) {
    make_vm(kSize, "never", "manual=1");
    start();
    ASSERT_TRUE(tracker_->stop().ok());
    guest_writes({1});
    qemu_writes({1026});
    ASSERT_TRUE(tracker_->start().ok());
    EXPECT_EQ(collect().dirty, Pages{});
    guest_writes({3});
    qemu_writes({4});
    EXPECT_EQ(collect().dirty, (Pages{3, 4}));
    EXPECT_TRUE(tracker_->stop().ok());
    EXPECT_TRUE(tracker_->stop().ok());
}

TEST_F(KvmDirtyLogTrackerTest, OfAProcessThatDiedFailsAndCanBeStopped) {
    make_vm(kSize, "never");
    start();
    vm_->program->kill_and_reap();
    PageSet dirty = vm_->empty_set();
    EXPECT_FALSE(tracker_->collect(dirty, dirty).ok());
    EXPECT_TRUE(tracker_->stop().ok());
    EXPECT_FALSE(tracker_->start().ok());
}

TEST_F(KvmDirtyLogTrackerTest, SaysWhyTheLogCannotBeUsed) {
    make_vm(kSize, "never", "manual=0");
    const pid_t pid = vm_->program->pid();
    const auto tracker = KvmDirtyLogTracker::create(pid, vm_->blocks, {}, vm_->socket_path);
    ASSERT_TRUE(absl::IsFailedPrecondition(tracker.status())) << tracker.status();
    EXPECT_NE(tracker.status().message().find("KVM"), std::string::npos);
}

TEST_F(KvmDirtyLogTrackerTest, IsNotFoundWithoutAResident) {
    make_vm(kSize, "never");
    const auto tracker =
        KvmDirtyLogTracker::create(::getpid(), vm_->blocks, {}, vm_->socket_path + "-gone");
    EXPECT_TRUE(absl::IsNotFound(tracker.status())) << tracker.status();
}

}  // namespace
}  // namespace godwit
