// KvmDirtyLogTracker: dirty tracking by KVM's own log, switched on by the resident inside QEMU.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "dirty-tracking/kvm/clear_windows.h"
#include "dirty-tracking/kvm/guest_log.h"
#include "dirty-tracking/tracker/tracker.h"
#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "engine/base/ram_block.h"

namespace godwit {

//            RAM file
//           ┌────┴─────┐
//        view A      view B
//        vCPUs       QEMU: virtio, disks, loaders
//      KVM's log     uffd-wp, skimming
//           └────┬─────┘
//          the dirty set; view B's part is unsettled
//
// A slot that KVM has with QEMU's own address (the kernel refused view A, or the slot is no single
// piece of a file) is written through view B and found there.
//
// Threads: as DirtyTracker; rearm() is thread-safe.
class KvmDirtyLogTracker final : public DirtyTracker {
  public:
    // Connects to the resident of `pid` and attaches. `blocks` are only used during the call.
    // Errors: NotFound (no resident), FailedPrecondition (its log can't be used: the message says
    // why; busy; another protocol version), those of UffdWriteProtectTracker::create().
    static absl::StatusOr<std::unique_ptr<KvmDirtyLogTracker>> create(
        pid_t pid, std::span<const RamBlock> blocks, std::span<const pid_t> vcpu_threads,
        const std::string& socket_path);

    // With parts made already. The block's sizes are in pages.
    KvmDirtyLogTracker(std::unique_ptr<GuestLog> guest,
                       std::unique_ptr<UffdWriteProtectTracker> qemu,
                       std::span<const uint64_t> page_counts);

    [[nodiscard]] std::string_view name() const override { return "kvm-dirty-log"; }
    // Slots that only view B can tell about, as of the last start().
    [[nodiscard]] std::vector<std::string> warnings() const override { return warnings_; }
    [[nodiscard]] bool sees_discards() const override { return true; }
    [[nodiscard]] bool rearms_as_read() const override { return true; }

    // Errors of both parts; after one nothing is armed.
    absl::Status start() override;
    // Errors: those of both parts. Unavailable: the resident is gone, and the log is off.
    absl::Status collect(PageSet& dirty, PageSet& unsettled) override;
    // Clears the log of a window around `range`, unless that was done since the last collect().
    absl::Status rearm(BlockIndex block, PageRange range) override;
    absl::Status stop() override;

    // Whether QEMU's view is still only skimmed; once not, each collect() costs more.
    [[nodiscard]] bool skims() const { return qemu_->skims(); }
    // How long attach held a thread of the target.
    [[nodiscard]] Duration attach_hold() const { return qemu_->attach_hold(); }

  private:
    std::unique_ptr<GuestLog> guest_;
    std::unique_ptr<UffdWriteProtectTracker> qemu_;
    std::vector<std::unique_ptr<ClearWindows>> windows_;  // by block
    PageSet logged_;                                      // of one collect()
    std::vector<std::string> warnings_;
};

}  // namespace godwit
