// A VM with the resident in its process, and the tracker on both of its views.
#pragma once

#include <gtest/gtest.h>

#include "dirty-tracking/kvm/kvm_dirty_log_tracker.h"
#include "tests/unit/dirty-tracking/resident/resident_fixture.h"

namespace godwit {

class TrackedVm : public testing::Test {
  protected:
    void SetUp() override {
        if (const std::string reason = why_no_resident(); !reason.empty()) GTEST_SKIP() << reason;
    }

    // One slot over one file; `huge` of the tmpfs.
    void make_vm(Bytes size, const std::string& huge, const std::string& manual = "manual=3") {
        ResidentTargetOptions options;
        options.ram = {size};
        options.arguments = {manual};
        options.mount_options = "size=256M,noswap,huge=" + huge;
        auto target = ResidentTarget::start(options);
        ASSERT_TRUE(target.ok()) << target.status();
        vm_ = *std::move(target);
        if (huge == "always") vm_->blocks[0].backing = Backing::kTmpfsHuge;
        ASSERT_EQ(vm_->slot(1, kGuestPage, 0, {0, size / kPageBytes}), "fine");
    }
    void make_tracker() {
        const pid_t pid = vm_->program->pid();
        auto tracker =
            KvmDirtyLogTracker::create(pid, vm_->blocks, other_threads(pid, pid), vm_->socket_path);
        ASSERT_TRUE(tracker.ok()) << tracker.status();
        tracker_ = *std::move(tracker);
    }
    void start() {
        ASSERT_NO_FATAL_FAILURE(make_tracker());
        const absl::Status status = tracker_->start();
        ASSERT_TRUE(status.ok()) << status;
    }

    // The vCPU writes these pages of the file; QEMU does.
    void guest_writes(const Pages& pages) const {
        ASSERT_EQ(vm_->write(moved(pages, kGuestPage)), "fine");
    }
    void qemu_writes(const Pages& pages) const { ASSERT_EQ(vm_->tell("store 0", pages), "fine"); }

    std::unique_ptr<ResidentTarget> vm_;
    std::unique_ptr<KvmDirtyLogTracker> tracker_;
};

}  // namespace godwit
