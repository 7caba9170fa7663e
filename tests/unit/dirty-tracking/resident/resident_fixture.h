// The case of most tests: one target, one agent.
#pragma once

#include <gtest/gtest.h>

#include <memory>

#include "tests/unit/dirty-tracking/resident/resident_target.h"

namespace godwit {

// 64 MiB: where the first RAM slot begins in the guest, above kvm_target's own memory.
inline constexpr PageIndex kGuestPage = 0x4000;
inline constexpr uint32_t kLogFlag = 1;       // KVM_MEM_LOG_DIRTY_PAGES
inline constexpr uint32_t kReadOnlyFlag = 2;  // KVM_MEM_READONLY
inline constexpr uint32_t kSecondAddressSpace = 0x10000;

class ResidentTest : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_resident(); !reason.empty()) GTEST_SKIP() << reason;
    }

    // Without slots.
    void start_target(const ResidentTargetOptions& options = {}) {
        auto target = ResidentTarget::start(options);
        ASSERT_TRUE(target.ok()) << target.status();
        target_ = *std::move(target);
        connect();
    }
    void connect() {
        auto client = target_->connect();
        ASSERT_TRUE(client.ok()) << client.status();
        client_ = *std::move(client);
    }
    // With slot 1 on the whole of the first block, and the log on.
    void start_logged(const ResidentTargetOptions& options = {}) {
        ASSERT_NO_FATAL_FAILURE(start_target(options));
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, target_->blocks[0].page_count()}), "fine");
        start_log();
    }
    void start_log() {
        const absl::Status status = client_->start_log(target_->blocks);
        ASSERT_TRUE(status.ok()) << status;
    }
    Pages collect(size_t block = 0) { return target_->collect(*client_, block); }
    void rearm_all() {
        const absl::Status status = target_->rearm_all(*client_);
        EXPECT_TRUE(status.ok()) << status;
    }
    [[nodiscard]] std::string write(const Pages& file_pages) const {
        return target_->write(moved(file_pages, kGuestPage));
    }

    std::unique_ptr<ResidentTarget> target_;
    std::unique_ptr<ResidentClient> client_;
};

}  // namespace godwit
