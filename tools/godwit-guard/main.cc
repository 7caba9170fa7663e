// godwit-guard: gives a guest back to the source when its agent can't. Started by godwitd only:
//   godwit-guard WORD-FILE GUARD-ADDRESS      (with the agent's socket as descriptor 3)
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>

#include "engine/base/late_call.h"
#include "engine/base/wait.h"
#include "engine/guest/libvirt/libvirt_calls.h"
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
    const std::shared_ptr<QmpVm> vm_;
};

// A guest that can be reached only when the agent has let go of it: it is connected to then.
class SuccessorRescue final : public GuestRescue {
  public:
    SuccessorRescue(std::shared_ptr<QmpVm> vm, UniqueFd agent)
        : vm_(std::move(vm)), agent_(std::move(agent)) {}
    absl::Status roll_back(bool run, Duration limit) override { return vm_->roll_back(run, limit); }
    absl::Status take_over(Duration limit) override {
        std::fprintf(stderr, "guard: the agent hangs and has the only monitor: it is ended\n");
        GODWIT_RETURN_IF_ERROR(send_signal(agent_.get(), SIGKILL));
        return annotate(wait_readable(agent_.get(), -1, Clock::system().now() + limit),
                        "The agent does not end");
    }

  private:
    const std::shared_ptr<QmpVm> vm_;
    const UniqueFd agent_;  // a pidfd
};

// The process at the other end of the socket.
absl::StatusOr<UniqueFd> open_agent(int socket) {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return errno_status(errno, "Cannot see who the agent is");
    UniqueFd agent(static_cast<int>(::syscall(SYS_pidfd_open, peer.pid, 0)));
    if (!agent.valid()) return errno_status(errno, "Cannot watch the agent");
    // As long as its end is open the pid was not given to another.
    char none = 0;
    if (::recv(socket, &none, sizeof none, MSG_PEEK | MSG_DONTWAIT) == 0)
        return absl::NotFoundError("The agent has ended");
    return agent;
}

// A domain of libvirt, or the VM whose directory holds the socket, through that socket.
absl::StatusOr<std::unique_ptr<GuestRescue>> open_rescue(const std::string& guard_address) {
    if (LibvirtVm::is_address(guard_address)) {
        GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<LibvirtVm> domain, LibvirtVm::open(guard_address));
        if (domain->has_only_its_agents_monitor()) {
            GODWIT_ASSIGN_OR_RETURN(UniqueFd agent, open_agent(kGuardSocketFd));
            return std::make_unique<SuccessorRescue>(std::move(domain), std::move(agent));
        }
        GODWIT_RETURN_IF_ERROR(domain->connect(kConnectLimit));
        return std::make_unique<QemuRescue>(std::move(domain));
    }
    const VmPaths paths{
        .directory = std::filesystem::path(guard_address).parent_path().string(),
        .through_guard = true,
    };
    GODWIT_ASSIGN_OR_RETURN(VmRecord record, read_record(paths.record()));
    GODWIT_ASSIGN_OR_RETURN(UniqueFd pidfd, open_process(record.process));
    GODWIT_ASSIGN_OR_RETURN(std::shared_ptr<QemuVm> vm,
                            QemuVm::create(std::move(record), paths, std::move(pidfd), [] {}));
    GODWIT_RETURN_IF_ERROR(vm->connect(kConnectLimit));
    return std::make_unique<QemuRescue>(std::move(vm));
}

int run(int argc, char** argv) {
    if (argc != 3) {
        std::fprintf(stderr, "godwit-guard is started by godwitd\n");
        return 2;
    }
    ::signal(SIGPIPE, SIG_IGN);
    // While nobody waits for it. What is in the way is told by open_rescue().
    if (LibvirtVm::is_address(argv[2])) load_libvirt().IgnoreError();
    const std::optional<bool> guest_runs = await_guard_begin(kGuardSocketFd);
    if (!guest_runs) return 0;
    const absl::StatusOr<std::unique_ptr<GuestRescue>> rescue = open_rescue(argv[2]);
    if (!rescue.ok()) {
        std::fprintf(stderr, "guard: %s\n", rescue.status().ToString().c_str());
        return 1;
    }
    return run_guard(kGuardSocketFd, argv[1], *guest_runs, **rescue);
}

}  // namespace
}  // namespace godwit

int main(int argc, char** argv) {
    const int code = godwit::run(argc, argv);
    // Threads that hang in libvirt must not meet what exit() takes down.
    if (godwit::late_calls_that_hang() > 0) ::_exit(code);
    return code;
}
