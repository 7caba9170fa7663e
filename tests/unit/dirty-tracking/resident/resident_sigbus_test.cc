#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {
namespace {

class ResidentSigbus : public ResidentTest {
  protected:
    // A slot whose file loses its second half: reading that is a bus error in either view.
    void start() {
        ASSERT_NO_FATAL_FAILURE(start_target());
        ASSERT_EQ(target_->slot(1, kGuestPage, 0, {0, 1024}), "fine");
        const auto views = client_->views();
        ASSERT_TRUE(views.ok());
        ASSERT_EQ(views->size(), 1u);
        view_ = views->front();
        ASSERT_EQ(::ftruncate(target_->blocks[0].file.get(), kChunkBytes), 0);
    }
    [[nodiscard]] std::string touch(uint64_t address) const {
        return target_->tell("touch " + std::to_string(address));
    }
    static std::string error_at(uint64_t address) {
        return "bus error at " + std::to_string(address);
    }
    ResidentView view_;
};

TEST_F(ResidentSigbus, InViewAIsReportedInViewB) {
    ASSERT_NO_FATAL_FAILURE(start());
    ASSERT_EQ(target_->tell("handle-sigbus"), "fine");
    for (const Bytes offset : {kChunkBytes, 2 * kChunkBytes - 8}) {
        EXPECT_EQ(touch(view_.kvm_address + offset), error_at(view_.qemu_address + offset));
        EXPECT_EQ(touch(view_.qemu_address + offset), error_at(view_.qemu_address + offset));
    }
    EXPECT_EQ(touch(view_.kvm_address + 8), "fine");
}

TEST_F(ResidentSigbus, WithoutAHandlerEndsQemuAsEver) {
    ASSERT_NO_FATAL_FAILURE(start());
    EXPECT_EQ(touch(view_.kvm_address + kChunkBytes), "");
}

}  // namespace
}  // namespace godwit
