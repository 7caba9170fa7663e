// QemuHypervisor: VMs that the agent itself starts, as stock QEMU processes.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "engine/base/thread_annotations.h"
#include "engine/guest/hypervisor.h"
#include "engine/guest/qemu/host_facts.h"
#include "engine/guest/qemu/qemu_vm.h"
#include "engine/guest/qemu/ram_mount.h"
#include "engine/guest/qemu/vm_record.h"

namespace godwit {

struct QemuOptions {
    std::string state_dir;  // absolute; holds vms/ and the RAM mounts; one agent per directory
    std::string qemu_binary = "qemu-system-x86_64";  // a path, or a name in $PATH
    std::string resident_library;                    // absolute path; empty: none is preloaded
    Bytes memory_limit_bytes = 0;                    // for all VMs together; 0: none
};

// Thread-safe. QEMUs outlive this object (and the agent); adopt() finds them again. What a VM has
// on disk is <state>/vms/<name>/ and RAM files <state>/ram-*/<name>-<nonce>-ram<N>.
class QemuHypervisor final : public Hypervisor {
  public:
    explicit QemuHypervisor(QemuOptions options);
    // Unmounts what holds no RAM file.
    ~QemuHypervisor() override;

    absl::StatusOr<HypervisorInfo> info() override;
    // Also ResourceExhausted, over the memory limit.
    absl::Status check(const v1::VmSpec& spec) override;
    // The Vm's spec() is resolved: accelerator, versioned machine, CPU, UUID, MACs.
    absl::StatusOr<std::shared_ptr<Vm>> start(const v1::VmSpec& spec, StartMode mode) override;
    // Removes what is left of VMs whose process has ended. A VM that this object has already is not
    // returned again; one whose record is damaged is left alone, with a line in the log.
    absl::StatusOr<std::vector<std::shared_ptr<Vm>>> adopt() override;
    bool may_have(const std::string& name) override;
    absl::Status forget(Vm& vm) override;
    void trim_serial_logs() override;
    [[nodiscard]] std::string serial_log_path(const std::string& vm_name) const override;

    // Unmounts the RAM mounts that hold no file now.
    void release_unused_mounts() { mounts_.release_unused(); }

  private:
    // Guest memory of the VMs that have a directory, by name. Outlives us: a Vm gives its part
    // back.
    class Ledger {
      public:
        absl::Status take(const std::string& name, Bytes bytes, Bytes limit);
        absl::Status would_fit(Bytes bytes, Bytes limit);
        bool has(const std::string& name);
        void give_back(const std::string& name);
        std::vector<std::string> names();

      private:
        [[nodiscard]] absl::Status fits(Bytes bytes, Bytes limit) const;
        std::mutex mutex_;
        std::map<std::string, Bytes> taken_ GODWIT_GUARDED_BY(mutex_);
    };
    // A VM under construction: undone unless it is kept.
    struct Start;

    absl::StatusOr<v1::VmSpec> resolve(const v1::VmSpec& spec);
    absl::Status claim_directory(const std::string& name, const VmPaths& paths);
    absl::StatusOr<std::shared_ptr<Vm>> launch(Start& start);
    absl::StatusOr<std::shared_ptr<QemuVm>> watch(VmRecord record, const VmPaths& paths,
                                                  UniqueFd pidfd);
    absl::StatusOr<std::shared_ptr<Vm>> adopt_one(const std::string& name);

    const QemuOptions options_;
    QemuProbe probe_;
    RamMounts mounts_;
    const std::shared_ptr<Ledger> ledger_ = std::make_shared<Ledger>();
};

}  // namespace godwit
