#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

class ResidentDiscards : public ResidentTest {
  protected:
    void start(ResidentLog kind, const std::string& argument) {
        ResidentTargetOptions options;
        options.ram = {4 * kChunkBytes};
        options.arguments = {argument};
        ASSERT_NO_FATAL_FAILURE(start_target(options));
        const absl::Status status = client_->start_log(target_->blocks, kind);
        ASSERT_TRUE(status.ok()) << status;
    }
    [[nodiscard]] std::string punch(PageIndex page, uint64_t count) const {
        return target_->tell("punch " + target_->blocks[0].path + " " + std::to_string(page) + " " +
                             std::to_string(count));
    }
};

TEST_F(ResidentDiscards, AreDirtyRoundedOutToHugePages) {
    ASSERT_NO_FATAL_FAILURE(start(ResidentLog::kKvm, "manual=3"));
    EXPECT_EQ(punch(3, 2), "fine");
    EXPECT_EQ(collect(), range_of(0, 512));
    EXPECT_EQ(punch(511, 2), "fine");
    EXPECT_EQ(collect(), range_of(0, 1024));
    EXPECT_EQ(punch(512, 512), "fine");
    EXPECT_EQ(collect(), range_of(512, 512));
    EXPECT_EQ(collect(), Pages{});
}

TEST_F(ResidentDiscards, ByAdviceAreDirtyToo) {
    ASSERT_NO_FATAL_FAILURE(start(ResidentLog::kKvm, "manual=3"));
    EXPECT_EQ(target_->tell("remove 0 600 1"), "fine");
    EXPECT_EQ(collect(), range_of(512, 512));
    EXPECT_EQ(target_->tell("forget 0 1600 1"), "fine");
    EXPECT_EQ(collect(), range_of(1536, 512));
}

TEST_F(ResidentDiscards, AreNotedWithoutKvm) {
    ASSERT_NO_FATAL_FAILURE(start(ResidentLog::kDiscardsOnly, "no-kvm"));
    EXPECT_EQ(punch(1030, 1), "fine");
    EXPECT_EQ(target_->tell("remove 0 1 1"), "fine");
    Pages expected = range_of(0, 512);
    expected.merge(range_of(1024, 512));
    EXPECT_EQ(collect(), expected);
    EXPECT_TRUE(client_->stop_log().ok());
    EXPECT_EQ(punch(1030, 1), "fine");
}

TEST_F(ResidentDiscards, AloneLeaveKvmsLogAlone) {
    ASSERT_NO_FATAL_FAILURE(start(ResidentLog::kDiscardsOnly, "manual=3"));
    EXPECT_EQ(target_->slot(1, kGuestPage, 0, {0, 2048}), "fine");
    EXPECT_EQ(target_->tell("kernel-get 1"), "ENOENT");
    EXPECT_EQ(write({7}), "fine");
    EXPECT_EQ(collect(), Pages{});
}

TEST_F(ResidentDiscards, OfOtherFilesAreNobodysBusiness) {
    ASSERT_NO_FATAL_FAILURE(start(ResidentLog::kKvm, "manual=3"));
    const std::string path = target_->mount.path() + "/other";
    EXPECT_EQ(target_->tell("pair " + path + "0 " + path + "1 2097152"), "fine");
    EXPECT_EQ(target_->tell("punch " + path + "0 3 1"), "fine");
    EXPECT_EQ(target_->tell("remove 1 3 1"), "fine");
    EXPECT_EQ(collect(), Pages{});
}

}  // namespace
}  // namespace godwit
