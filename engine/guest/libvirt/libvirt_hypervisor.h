// LibvirtHypervisor: domains of libvirt, which others define and start.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/guest/hypervisor.h"
#include "engine/guest/libvirt/connection.h"
#include "engine/guest/libvirt/libvirt_vm.h"

namespace godwit {

// Thread-safe. Every domain that runs is a VM of this host (find(), names()); start() makes those
// that wait for a migration. Whatever libvirtd does, calls take kAnswerLimit at most, start() 40 s.
class LibvirtHypervisor final : public Hypervisor {
  public:
    explicit LibvirtHypervisor(const std::string& uri)
        : connection_(std::make_shared<LibvirtConnection>(uri)) {}

    // Errors: Unavailable when libvirt can't be reached, FailedPrecondition when it runs no QEMU.
    absl::StatusOr<HypervisorInfo> info() override;
    absl::Status check(const v1::VmSpec& spec) override;
    // Unimplemented for StartMode::kRun: that is virsh's.
    absl::StatusOr<std::shared_ptr<Vm>> start(const v1::VmSpec& spec, StartMode mode) override;
    absl::StatusOr<std::vector<std::shared_ptr<Vm>>> adopt() override;
    [[nodiscard]] bool finds_vms() const override { return true; }
    absl::StatusOr<std::shared_ptr<Vm>> find(const std::string& name) override;
    absl::StatusOr<std::string> name_of(const std::string& uuid) override;
    absl::StatusOr<std::vector<std::string>> names() override;
    bool may_have(const std::string& name) override;
    absl::Status forget(Vm& vm) override;
    void trim_serial_logs() override {}
    [[nodiscard]] std::string serial_log_path(const std::string&) const override { return {}; }

    absl::Status undefine(const std::string& uuid) override {
        return undefine_domain(connection_, uuid);
    }
    std::vector<std::string> left_behind(const std::string& uuid) override {
        return definition_left_behind(connection_, uuid);
    }
    void end_soon(Duration limit) override;

  private:
    const std::shared_ptr<LibvirtConnection> connection_;
};

}  // namespace godwit
