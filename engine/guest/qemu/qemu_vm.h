// QemuVm: one running QEMU that the agent itself started.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/thread_annotations.h"
#include "engine/guest/qemu/qmp_vm.h"
#include "engine/guest/qemu/vm_record.h"

namespace godwit {

// Made by QemuHypervisor.
class QemuVm final : public QmpVm {
  public:
    // Opens the RAM files and watches the process; connects to nothing yet. `on_removed` is called
    // once, when the VM's files are gone. Errors: those of open_ram_block().
    static absl::StatusOr<std::shared_ptr<QemuVm>> create(VmRecord record, VmPaths paths,
                                                          UniqueFd pidfd,
                                                          std::function<void()> on_removed);

    // The process has ended. Idempotent; errors: FailedPrecondition while it runs.
    absl::Status remove_files();

    [[nodiscard]] const v1::VmSpec& spec() const override { return record_.spec; }
    [[nodiscard]] std::vector<std::string> discarding_devices() const override;
    absl::Status stop(bool force, Duration limit) override;
    [[nodiscard]] std::string resident_socket() const override { return paths_.resident_socket(); }
    [[nodiscard]] std::string guard_address() const override { return paths_.guard_socket(); }

  private:
    QemuVm(Parts parts, Wakeup wakeup, VmRecord record, VmPaths paths,
           std::function<void()> on_removed);

    const VmRecord record_;
    const VmPaths paths_;

    std::mutex mutex_;
    bool removed_ GODWIT_GUARDED_BY(mutex_) = false;
    std::function<void()> on_removed_ GODWIT_GUARDED_BY(mutex_);
};

}  // namespace godwit
