// No write is lost: a vCPU writes through one view and QEMU through the other, both at once and
// never at rest; a copy built from rounds equals the memory once both have stopped and one more
// round was made.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "tests/unit/dirty-tracking/kvm/tracked_vm.h"
#include "tests/unit/dirty-tracking/writeprotect/copier.h"

#ifndef GODWIT_KVM_SCHEDULES
#define GODWIT_KVM_SCHEDULES 40
#endif

namespace godwit {
namespace {

constexpr Bytes kScheduleBytes = 16 * kChunkBytes;  // four of the smallest windows
constexpr PageIndex kSchedulePages = kScheduleBytes / kPageBytes;
constexpr uint64_t kSchedules = GODWIT_KVM_SCHEDULES;  // a case

class KvmDirtyLogProperty : public TrackedVm {
  protected:
    // QEMU's thread: writes random pages through view B until it is told to stop.
    std::jthread let_qemu_write(uint64_t seed, PageRange pages) {
        return std::jthread([this, seed, pages](const std::stop_token& stop) {
            std::mt19937_64 random(seed);
            while (!stop.stop_requested()) {
                Pages some;
                for (int i = 0; i < 32; ++i) some.insert(pages.begin + random() % pages.count());
                EXPECT_EQ(vm_->tell("store 0", some), "fine");
            }
        });
    }

    std::string guest_command(uint64_t seed, std::mt19937_64& random) {
        const PageIndex pages = PageIndex{16} << random() % 9;
        const PageIndex first = kGuestPage + random() % (kSchedulePages - pages + 1);
        return "run 0 " + std::to_string(seed) + " " + std::to_string(first * kPageBytes) + " " +
               std::to_string(pages);
    }

    // The page that was lost, or none.
    std::optional<PageIndex> run(uint64_t seed, Order order) {
        std::mt19937_64 random(seed);
        Copier copier(vm_->blocks[0]);
        EXPECT_EQ(vm_->tell(guest_command(seed, random)), "fine");
        const PageIndex first = random() % (kSchedulePages - 64);
        const PageRange qemu_pages{first, first + 1 + random() % (kSchedulePages - first)};
        std::jthread qemu = let_qemu_write(seed, qemu_pages);
        EXPECT_TRUE(tracker_->start().ok());
        EXPECT_TRUE(copier.copy_all());
        const uint64_t rounds = random() % 6;
        for (uint64_t i = 0; i < rounds; ++i) EXPECT_TRUE(copier.round(*tracker_, order));
        qemu.request_stop();
        qemu.join();
        EXPECT_EQ(vm_->tell("halt 0"), "fine");
        EXPECT_TRUE(copier.round(*tracker_, order));
        EXPECT_TRUE(tracker_->stop().ok());
        return copier.first_difference([](PageIndex, const char*) { return false; });
    }

    void expect_no_loss(const std::string& huge, const std::string& manual, uint64_t first_seed) {
        ASSERT_NO_FATAL_FAILURE(make_vm(kScheduleBytes, huge, manual));
        ASSERT_NO_FATAL_FAILURE(make_tracker());
        for (uint64_t seed = first_seed; seed < first_seed + kSchedules; ++seed) {
            const auto lost = run(seed, Order::kRightArmThenRead);
            ASSERT_FALSE(lost.has_value()) << "seed " << seed << " lost a write to page " << *lost;
            ASSERT_FALSE(HasFailure()) << "seed " << seed;
        }
    }
};

TEST_F(KvmDirtyLogProperty, LosesNoWriteOn4kTmpfs) { expect_no_loss("never", "manual=3", 1000); }
TEST_F(KvmDirtyLogProperty, LosesNoWriteOnHugeTmpfs) { expect_no_loss("always", "manual=3", 2000); }
TEST_F(KvmDirtyLogProperty, LosesNoWriteWithoutInitiallySet) {
    expect_no_loss("always", "manual=1", 3000);
}

// The check itself: it must see the loss when pages are read before they are armed again.
TEST_F(KvmDirtyLogProperty, IsViolatedByReadingBeforeRearming) {
    ASSERT_NO_FATAL_FAILURE(make_vm(kScheduleBytes, "never"));
    ASSERT_NO_FATAL_FAILURE(make_tracker());
    bool caught = false;
    for (uint64_t seed = 1; seed < 100 && !caught; ++seed)
        caught = run(seed, Order::kWrongReadThenArm).has_value();
    EXPECT_TRUE(caught) << "reading too early was not noticed";
}

}  // namespace
}  // namespace godwit
