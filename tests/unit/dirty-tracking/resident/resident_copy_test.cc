// No write is lost: a copy built from collect, rearm and read rounds beside a vCPU that never stops
// writing equals the original once it has stopped and one more round was made.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <random>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

#ifndef GODWIT_COPY_SCHEDULES
#define GODWIT_COPY_SCHEDULES 15
#endif

namespace godwit {
namespace {

constexpr Bytes kSize = 2 * kChunkBytes;
constexpr PageIndex kPageCount = kSize / kPageBytes;

enum class Order { kRightArmThenRead, kWrongReadThenArm };

class ResidentCopy : public ResidentTest {
  protected:
    void read(PageRange run) {
        const absl::Status status =
            read_fully(target_->blocks[0].file.get(), &copy_[run.begin * kPageBytes],
                       run.count() * kPageBytes, run.begin * kPageBytes);
        ASSERT_TRUE(status.ok()) << status;
    }

    // The dirty pages of one window, in the right order or the wrong one.
    void copy_window(const PageBitmap& dirty, PageRange window, Order order) {
        const auto read_dirty = [&] {
            for (PageIndex page = dirty.next_set(window.begin); page < window.end;
                 page = dirty.next_set(page + 1))
                read({page, page + 1});
        };
        if (order == Order::kWrongReadThenArm) read_dirty();
        ASSERT_TRUE(client_->rearm(0, window).ok());
        if (order == Order::kRightArmThenRead) read_dirty();
    }

    void round(std::mt19937_64& random, Order order) {
        PageSet dirty = target_->empty_set();
        ASSERT_TRUE(client_->collect(dirty).ok());
        for (PageIndex at = 0; at < kPageCount;) {
            const PageIndex end = std::min<PageIndex>(kPageCount, at + 1 + random() % 400);
            ASSERT_NO_FATAL_FAILURE(copy_window(dirty[0], {at, end}, order));
            at = end;
        }
    }

    // Deletes the slot and makes it again while the guest does not run, as firmware does.
    void replace_slot() {
        ASSERT_EQ(target_->tell("halt 0"), "fine");
        ASSERT_EQ(target_->remove_slot(1), "fine");
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, kPageCount}), "fine");
    }

    std::string run_command(uint64_t seed, std::mt19937_64& random) {
        const PageIndex pages = PageIndex{16} << random() % 7;  // 16 to 1024
        const PageIndex first = kGuestPage + random() % (kPageCount - pages + 1);
        return "run 0 " + std::to_string(seed) + " " + std::to_string(first * kPageBytes) + " " +
               std::to_string(pages);
    }

    // Whether the copy is right.
    bool run_schedule(uint64_t seed, Order order) {
        std::mt19937_64 random(seed);
        const std::string command = run_command(seed, random);
        EXPECT_EQ(target_->tell(command), "fine");
        start_log();
        read({0, kPageCount});
        const uint64_t rounds = 1 + random() % 6;
        for (uint64_t i = 0; i < rounds && !HasFatalFailure(); ++i) {
            if (random() % 8 == 0) {
                replace_slot();
                EXPECT_EQ(target_->tell(command), "fine");
            }
            round(random, order);
        }
        EXPECT_EQ(target_->tell("halt 0"), "fine");
        round(random, order);
        std::vector<char> original(kSize);
        EXPECT_TRUE(read_fully(target_->blocks[0].file.get(), original.data(), kSize, 0).ok());
        return original == copy_;
    }

    void start_copy(const std::string& manual, const std::string& huge) {
        ResidentTargetOptions options;
        options.arguments = {manual};
        options.mount_options = "size=64M,huge=" + huge;
        ASSERT_NO_FATAL_FAILURE(start_target(options));
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, kPageCount}), "fine");
    }

    void expect_no_loss(const std::string& manual, const std::string& huge, uint64_t first_seed) {
        ASSERT_NO_FATAL_FAILURE(start_copy(manual, huge));
        for (uint64_t i = 0; i < GODWIT_COPY_SCHEDULES; ++i) {
            ASSERT_TRUE(run_schedule(first_seed + i, Order::kRightArmThenRead))
                << "seed " << first_seed + i << " lost a write";
            ASSERT_FALSE(HasFailure()) << "seed " << first_seed + i;
        }
    }

    std::vector<char> copy_ = std::vector<char>(kSize);
};

TEST_F(ResidentCopy, LosesNoWriteWithInitiallySet) { expect_no_loss("manual=3", "never", 10'000); }
TEST_F(ResidentCopy, LosesNoWriteWithoutInitiallySet) {
    expect_no_loss("manual=1", "never", 20'000);
}
TEST_F(ResidentCopy, LosesNoWriteOnHugePages) { expect_no_loss("manual=3", "always", 30'000); }

// The check itself: it must see the loss when pages are read before they are armed again.
TEST_F(ResidentCopy, IsViolatedByReadingBeforeArming) {
    ASSERT_NO_FATAL_FAILURE(start_copy("manual=3", "never"));
    bool caught = false;
    for (uint64_t seed = 1; seed < 200 && !caught && !HasFailure(); ++seed)
        caught = !run_schedule(seed, Order::kWrongReadThenArm);
    EXPECT_TRUE(caught) << "reading too early was not noticed";
}

}  // namespace
}  // namespace godwit
