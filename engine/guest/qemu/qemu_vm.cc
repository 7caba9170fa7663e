#include "engine/guest/qemu/qemu_vm.h"

#include <fmt/format.h>

#include <utility>

#include "engine/guest/qemu/qmp_client.h"
#include "engine/guest/qemu/ram_mount.h"

namespace godwit {

absl::StatusOr<std::shared_ptr<QemuVm>> QemuVm::create(VmRecord record, VmPaths paths,
                                                       UniqueFd pidfd,
                                                       std::function<void()> on_removed) {
    Parts parts{.name = record.spec.name(),
                .process = record.process,
                .pidfd = std::move(pidfd),
                .open_session = [socket = paths.qmp_socket()](MonotonicTime deadline,
                                                              QmpSession::OnEvent on_event) {
                    return QmpClient::connect(socket, deadline, std::move(on_event));
                }};
    const Backing backing = backing_of(record.spec.memory_backing());
    for (const std::string& path : record.ram_files) {
        GODWIT_ASSIGN_OR_RETURN(
            RamBlock block,
            open_ram_block(fmt::format("ram{}", parts.ram_blocks.size()), path, backing));
        parts.ram_blocks.push_back(std::move(block));
    }
    GODWIT_ASSIGN_OR_RETURN(Wakeup wakeup, Wakeup::create());
    return std::shared_ptr<QemuVm>(new QemuVm(std::move(parts), std::move(wakeup),
                                              std::move(record), std::move(paths),
                                              std::move(on_removed)));
}

QemuVm::QemuVm(Parts parts, Wakeup wakeup, VmRecord record, VmPaths paths,
               std::function<void()> on_removed)
    : QmpVm(std::move(parts), std::move(wakeup)),
      record_(std::move(record)),
      paths_(std::move(paths)),
      on_removed_(std::move(on_removed)) {}

std::vector<std::string> QemuVm::discarding_devices() const {
    std::vector<std::string> devices;
    if (record_.spec.balloon()) devices.emplace_back("balloon0 (virtio-balloon-pci)");
    return devices;
}

absl::Status QemuVm::stop(bool force, Duration limit) {
    const MonotonicTime deadline = Clock::system().now() + limit;
    if (force) {
        GODWIT_RETURN_IF_ERROR(kill(limit));
        return remove_files();
    }
    if (!ended()) {
        const absl::Status asked = command("system_powerdown", {}, limit).status();
        if (!asked.ok() && !absl::IsNotFound(asked)) return asked;
    }
    if (!await_end(deadline).ok())
        return absl::DeadlineExceededError(fmt::format(
            "VM {} did not power off within {:.1f} s; the guest may not know how, or is "
            "paused: use --force",
            record_.spec.name(), std::chrono::duration<double>(limit).count()));
    return remove_files();
}

absl::Status QemuVm::remove_files() {
    if (!ended())
        return absl::FailedPreconditionError(
            fmt::format("VM {} still runs (pid {})", record_.spec.name(), pid()));
    GODWIT_RETURN_IF_ERROR(await_end(Clock::system().now()));
    std::function<void()> on_removed;
    {
        // A later VM may have the same name, hence the same directory: only once.
        const std::lock_guard lock(mutex_);
        if (removed_) return absl::OkStatus();
        GODWIT_RETURN_IF_ERROR(remove_vm_files(paths_, record_.ram_files));
        removed_ = true;
        on_removed = std::move(on_removed_);
    }
    if (on_removed) on_removed();
    return absl::OkStatus();
}

}  // namespace godwit
