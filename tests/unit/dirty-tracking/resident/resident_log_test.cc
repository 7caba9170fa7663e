#include <gtest/gtest.h>

#include "tests/unit/dirty-tracking/resident/resident_target.h"

namespace godwit {
namespace {

constexpr PageIndex kGuest = 0x4000;  // 64 MiB: where the RAM slot begins in the guest

class ResidentLogTest : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_resident(); !reason.empty()) GTEST_SKIP() << reason;
    }
    void start(const ResidentTargetOptions& options = {}) {
        auto target = ResidentTarget::start(options);
        ASSERT_TRUE(target.ok()) << target.status();
        target_ = *std::move(target);
        ASSERT_EQ(target_->slot(1, kGuest, 0, {0, target_->blocks[0].page_count()}), "fine");
        auto client = target_->connect();
        ASSERT_TRUE(client.ok()) << client.status();
        client_ = *std::move(client);
    }
    void start_log() {
        const absl::Status status = client_->start_log(target_->blocks);
        ASSERT_TRUE(status.ok()) << status;
    }
    Pages collect() { return target_->collect(*client_); }

    std::unique_ptr<ResidentTarget> target_;
    std::unique_ptr<ResidentClient> client_;
};

TEST_F(ResidentLogTest, ReportsAPageThatTheVcpuWroteUntilItIsArmedAgain) {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_NO_FATAL_FAILURE(start_log());
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->write({kGuest + 3, kGuest + 700}), "fine");
    EXPECT_EQ(collect(), (Pages{3, 700}));
    EXPECT_EQ(collect(), (Pages{3, 700}));
    EXPECT_TRUE(client_->rearm(0, {0, 512}).ok());
    EXPECT_EQ(collect(), Pages{700});
    EXPECT_TRUE(client_->rearm(0, {512, 1024}).ok());
    EXPECT_EQ(collect(), Pages{});
    EXPECT_EQ(target_->write({kGuest + 3}), "fine");
    EXPECT_EQ(collect(), Pages{3});
    EXPECT_TRUE(client_->stop_log().ok());
    EXPECT_EQ(target_->tell("kernel-get 1"), "ENOENT");
}

TEST_F(ResidentLogTest, SplitsTheView) {
    ASSERT_NO_FATAL_FAILURE(start());
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
    EXPECT_EQ(target_->write({kGuest + 5}), "fine");
    EXPECT_NE(target_->tell("load 0 5"), "0");
}

}  // namespace
}  // namespace godwit
