// godwit-guard: gives a guest back to the source when its agent can't. Started by godwitd only:
//   godwit-guard WORD-FILE GUARD-ADDRESS run|paused      (with the agent's socket as descriptor 3)
#include <signal.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "engine/guest/libvirt/late_calls.h"
#include "engine/guest/libvirt/libvirt_vm.h"
#include "engine/guest/qemu/qemu_vm.h"
#include "engine/handover/guard.h"
#include "engine/handover/guard_protocol.h"

namespace godwit {
namespace {

constexpr Duration kConnectLimit = std::chrono::seconds(5);

class QemuRescue final : public GuestRescue {
  public:
    explicit QemuRescue(std::shared_ptr<QmpVm> vm) : vm_(std::move(vm)) {}
    absl::Status roll_back(bool run, Duration limit) override { return vm_->roll_back(run, limit); }

  private:
    std::shared_ptr<QmpVm> vm_;
};

// A domain of libvirt, or the VM whose directory holds the socket, through that socket.
absl::StatusOr<std::shared_ptr<QmpVm>> open_vm(const std::string& guard_socket) {
    if (LibvirtVm::is_address(guard_socket)) {
        GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<LibvirtVm> domain, LibvirtVm::open(guard_socket));
        GODWIT_RETURN_IF_ERROR(domain->connect(kConnectLimit));
        return domain;
    }
    const VmPaths paths{
        .directory = std::filesystem::path(guard_socket).parent_path().string(),
        .through_guard = true,
    };
    GODWIT_ASSIGN_OR_RETURN(VmRecord record, read_record(paths.record()));
    GODWIT_ASSIGN_OR_RETURN(UniqueFd pidfd, open_process(record.process));
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<QemuVm> vm,
                            QemuVm::create(std::move(record), paths, std::move(pidfd), [] {}));
    GODWIT_RETURN_IF_ERROR(vm->connect(kConnectLimit));
    return vm;
}

int run(int argc, char** argv) {
    if (argc != 4) {
        std::fprintf(stderr, "godwit-guard is started by godwitd\n");
        return 2;
    }
    ::signal(SIGPIPE, SIG_IGN);
    absl::StatusOr<std::shared_ptr<QmpVm>> vm = open_vm(argv[2]);
    if (!vm.ok()) {
        std::fprintf(stderr, "guard: %s\n", vm.status().ToString().c_str());
        return 1;
    }
    QemuRescue rescue(*std::move(vm));
    return run_guard(kGuardSocketFd, argv[1], std::string(argv[3]) == "run", rescue);
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) {
    const int code = godwit::run(argc, argv);
    // Threads that hang in libvirt must not meet what exit() takes down.
    if (godwit::late_calls_that_hang() > 0) ::_exit(code);
    return code;
}
