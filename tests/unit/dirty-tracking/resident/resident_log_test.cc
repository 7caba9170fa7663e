#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/process/reserved_huge_pages.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

class ResidentLog : public ResidentTest {
  protected:
    void TearDown() override {
        client_.reset();
        target_.reset();  // before its huge pages are given back
    }

    std::optional<ReservedHugePages> reserved_;
};

TEST_F(ResidentLog, ReportsAPageThatTheVcpuWroteUntilItIsArmedAgain) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(write({3, 700}), "fine");
    EXPECT_EQ(collect(), (Pages{3, 700}));
    EXPECT_EQ(collect(), (Pages{3, 700}));
    EXPECT_TRUE(client_->rearm(0, {0, 512}).ok());
    EXPECT_EQ(collect(), Pages{700});
    EXPECT_TRUE(client_->rearm(0, {512, 1024}).ok());
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(write({3}), "fine");
    EXPECT_EQ(collect(), Pages{3});
}

TEST_F(ResidentLog, ArmsOnlyThePagesOfTheRange) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_EQ(write({60, 61, 62, 63, 64, 65}), "fine");
    EXPECT_EQ(collect(), range_of(60, 6));
    EXPECT_TRUE(client_->rearm(0, {61, 65}).ok());
    EXPECT_EQ(collect(), (Pages{60, 65}));
}

TEST_F(ResidentLog, DoesNotArmWhatTheLastCollectHasNotSeen) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(write({5}), "fine");
    rearm_all();
    EXPECT_EQ(collect(), Pages{5});
}

TEST_F(ResidentLog, DoesNotReportWhatQemuWrites) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_EQ(target_->tell("store 0", {7, 8}), "fine");
    EXPECT_EQ(collect(), Pages{});
}

TEST_F(ResidentLog, ShowsTheSameMemoryInBothViews) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    const auto views = client_->views();
    ASSERT_TRUE(views.ok());
    ASSERT_EQ(views->size(), 1u);
    const ResidentView& view = views->front();
    EXPECT_EQ(view.inode, target_->blocks[0].inode);
    EXPECT_EQ(view.device, target_->blocks[0].device);
    EXPECT_EQ(view.offset, 0u);
    EXPECT_EQ(view.length, target_->blocks[0].size);
    EXPECT_NE(view.kvm_address, view.qemu_address);
    EXPECT_EQ(view.kvm_address % kChunkBytes, 0u);
    EXPECT_EQ(write({5}), "fine");
    EXPECT_NE(target_->tell("load 0 5"), "0");
}

TEST_F(ResidentLog, TellsItsState) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    const auto state = client_->state();
    ASSERT_TRUE(state.ok());
    EXPECT_TRUE(state->has_kvm && state->manual_protect && state->initially_set);
    EXPECT_FALSE(state->dirty_ring);
    EXPECT_EQ(state->problem, "");
    EXPECT_EQ(state->slots, 2u);
    EXPECT_EQ(state->tracked_slots, 1u);
    EXPECT_EQ(state->vcpus, 1u);
    const auto slots = client_->slots();
    ASSERT_TRUE(slots.ok());
    ASSERT_EQ(slots->size(), 2u);
    const ResidentSlot& slot = slots->back();
    EXPECT_EQ(slot.id, 1u);
    EXPECT_EQ(slot.guest_address, kGuestPage * kPageBytes);
    EXPECT_EQ(slot.length, target_->blocks[0].size);
    EXPECT_EQ(slot.inode, target_->blocks[0].inode);
    EXPECT_TRUE(slot.tracked);
    EXPECT_FALSE(slots->front().tracked);
}

TEST_F(ResidentLog, IsOffInTheKernelAfterStop) {
    ASSERT_NO_FATAL_FAILURE(start_logged());
    EXPECT_NE(target_->tell("kernel-get 1"), "ENOENT");
    EXPECT_TRUE(client_->stop_log().ok());
    EXPECT_EQ(target_->tell("kernel-get 1"), "ENOENT");
    PageSet dirty = target_->empty_set();
    EXPECT_EQ(client_->collect(dirty).code(), absl::StatusCode::kFailedPrecondition);
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(write({1}), "fine");
    EXPECT_EQ(collect(), Pages{1});
}

TEST_F(ResidentLog, WorksWithoutInitiallySet) {
    ASSERT_NO_FATAL_FAILURE(start_logged({.arguments = {"manual=1"}}));
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(write({3, 700}), "fine");
    EXPECT_EQ(collect(), (Pages{3, 700}));
    rearm_all();
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->remove_slot(1), "fine");
    EXPECT_EQ(collect(), range_of(0, 1024));
    EXPECT_EQ(collect(), Pages{});
}

TEST_F(ResidentLog, LogsSeveralBlocks) {
    ResidentTargetOptions options;
    options.ram = {kChunkBytes, kChunkBytes * 3};
    ASSERT_NO_FATAL_FAILURE(start_target(options));
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 512}), "fine");
    EXPECT_EQ(target_->slot(2, kGuestPage + 512, 1, {0, 1536}), "fine");
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(write({511, 512, 2047}), "fine");
    PageSet dirty = target_->empty_set();
    EXPECT_TRUE(client_->collect(dirty).ok());
    EXPECT_EQ(dirty[0].count(), 1u);
    EXPECT_EQ(dirty[1].count(), 2u);
    EXPECT_TRUE(dirty[0].test(511) && dirty[1].test(0) && dirty[1].test(1535));
}

TEST_F(ResidentLog, LogsTwoVcpus) {
    ASSERT_NO_FATAL_FAILURE(start_logged({.arguments = {"manual=3", "vcpus=2"}}));
    EXPECT_EQ(target_->write({kGuestPage + 1}, 0), "fine");
    EXPECT_EQ(target_->write({kGuestPage + 2}, 1), "fine");
    EXPECT_EQ(collect(), (Pages{1, 2}));
}

TEST_F(ResidentLog, KeepsTheSplitViewInsideAHugeMount) {
    ResidentTargetOptions options;
    options.mount_options = "size=1G,huge=always";
    ASSERT_NO_FATAL_FAILURE(start_logged(options));
    EXPECT_EQ(write({3, 700}), "fine");
    EXPECT_EQ(collect(), (Pages{3, 700}));
    rearm_all();
    EXPECT_EQ(write({4}), "fine");
    EXPECT_EQ(collect(), Pages{4});
}

TEST_F(ResidentLog, IsExactToA4KPageOnHugetlbfs) {
    reserved_.emplace(4);
    if (!reserved_->enough()) GTEST_SKIP() << "no huge pages can be reserved here";
    ResidentTargetOptions options;
    options.mount_type = "hugetlbfs";
    options.mount_options = "pagesize=2M";
    options.ram = {4 * kChunkBytes};
    ASSERT_NO_FATAL_FAILURE(start_logged(options));
    EXPECT_EQ(write({3, 700}), "fine");
    EXPECT_EQ(collect(), (Pages{3, 700}));
    rearm_all();
    EXPECT_EQ(write({4, 2047}), "fine");
    EXPECT_EQ(collect(), (Pages{4, 2047}));
    EXPECT_NE(target_->tell("load 0 2047"), "0");
}

}  // namespace
}  // namespace godwit
