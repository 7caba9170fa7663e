// LibvirtVm: a running domain of libvirt.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine/guest/libvirt/connection.h"
#include "engine/guest/libvirt/late_calls.h"
#include "engine/guest/qemu/qmp_vm.h"

namespace godwit {

// Of a running domain's XML, for the engine.
inline constexpr unsigned int kDomainXmlFlags = VIR_DOMAIN_XML_SECURE | VIR_DOMAIN_XML_MIGRATABLE;

// What tells a domain's present run from any other.
struct DomainRun {
    std::string uuid;
    int id = -1;  // libvirt's, new at each start
    ProcessId process;
    // Of an embedded libvirt, which ends with its agent: QEMU's own socket, which is free then.
    // Empty: others can be told by libvirt's daemon.
    std::string monitor_socket = {};
};

// Made by LibvirtHypervisor. QMP goes through libvirt; so do the ways in which the domain ends, for
// libvirt to know. Whatever libvirtd does, no call takes longer than its limit, or kAnswerLimit.
class LibvirtVm final : public QmpVm {
  public:
    // `problems`: why it can't be migrated; then it may have no RAM blocks. Errors: NotFound when
    // the process has ended.
    static absl::StatusOr<std::shared_ptr<LibvirtVm>> create(
        std::shared_ptr<LibvirtConnection> connection, const DomainRun& run, v1::VmSpec spec,
        std::vector<RamBlock> ram_blocks, std::vector<std::string> problems,
        std::vector<std::string> discarding_devices);
    // Waits 2 s at most for libvirt to have done with a domain that was killed.
    ~LibvirtVm() override;
    // The same VM from guard_address(), without its RAM: for the guard.
    static absl::StatusOr<std::shared_ptr<LibvirtVm>> open(const std::string& guard_address);
    // Of such a VM: it can't be reached while its agent lives.
    [[nodiscard]] bool has_only_its_agents_monitor() const { return !run_.monitor_socket.empty(); }
    static bool is_address(const std::string& guard_address);

    [[nodiscard]] const v1::VmSpec& spec() const override { return spec_; }
    [[nodiscard]] std::vector<std::string> discarding_devices() const override {
        return discarding_devices_;
    }
    absl::StatusOr<std::vector<std::string>> migration_blockers() override;
    // Errors: also FailedPrecondition, where somebody has changed the domain since it was looked
    // up: libvirt has no lock that would keep them from it, and the destination has it as it was.
    absl::Status prepare_device_save(UniqueFd out) override;
    void forgo_device_save() override;
    absl::Status roll_back(bool run, Duration limit) override;
    absl::StatusOr<v1::VmSpec> spec_to_move(bool with_definition) override;
    absl::Status undefine() override;
    std::vector<std::string> left_behind() override;
    absl::Status arrived(const std::string& definition) override;
    absl::StatusOr<NativeProgress> move_natively(
        const NativeMove& move, const std::function<bool(const NativeProgress&)>& go_on) override;
    // By SIGKILL, once libvirt knows that it is to end the domain: it goes on tidying up after this
    // has returned.
    absl::Status kill(Duration limit) override;
    absl::Status stop(bool force, Duration limit) override;
    [[nodiscard]] std::string resident_socket() const override;
    [[nodiscard]] std::string guard_address() const override;

  private:
    LibvirtVm(Parts parts, Wakeup wakeup, std::shared_ptr<LibvirtConnection> connection,
              DomainRun run, v1::VmSpec spec, std::vector<std::string> problems,
              std::vector<std::string> discarding_devices);
    static absl::StatusOr<std::shared_ptr<LibvirtVm>> make(
        std::shared_ptr<LibvirtConnection> connection, const DomainRun& run, OpenSession session,
        v1::VmSpec spec, std::vector<RamBlock> ram_blocks, std::vector<std::string> problems,
        std::vector<std::string> discarding_devices);
    static OpenSession through_libvirt(std::shared_ptr<LibvirtConnection> connection,
                                       const DomainRun& run);
    static OpenSession through_socket(const std::string& path);
    // The domain, as long as it is this run of it. Takes as long as libvirtd does. Errors:
    // NotFound.
    static absl::StatusOr<DomainHandle> domain_of(const ConnectHandle& connection,
                                                  const DomainRun& run, const std::string& name);
    // What `ask` says of it, within kAnswerLimit. It must own what it uses.
    template <typename Result>
    absl::StatusOr<Result> ask_of_domain(std::function<absl::StatusOr<Result>(virDomain*)> ask);
    absl::Status restore_migration_settings(Duration limit);

    const std::shared_ptr<LibvirtConnection> connection_;
    const DomainRun run_;
    const v1::VmSpec spec_;
    const std::vector<std::string> problems_;
    const std::vector<std::string> discarding_devices_;

    std::mutex mutex_;
    std::unique_ptr<LateCall> destroyer_ GODWIT_GUARDED_BY(mutex_);
};

}  // namespace godwit
