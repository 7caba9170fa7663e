#include "engine/guest/qemu/qemu_start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstring>

#include "engine/guest/qemu/spec_check.h"
#include "engine/guest/qemu/tap.h"

namespace godwit {
namespace {

absl::StatusOr<UniqueFd> listen_at(const std::string& path) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return errno_status(errno, "socket");
    // QEMU serves one client at a time; the others wait in the backlog.
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 4) != 0)
        return errno_status(errno, fmt::format("Cannot listen at {}", path));
    return socket;
}

}  // namespace

absl::Status check_socket_path(const VmPaths& paths) {
    const std::string longest = paths.guard_socket();
    if (longest.size() < sizeof(sockaddr_un::sun_path)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {} bytes too long for a unix socket; use a shorter --state-dir", longest,
                    longest.size() + 1 - sizeof(sockaddr_un::sun_path)));
}

absl::StatusOr<UniqueFd> start_qemu(const std::string& program, const std::string& state_dir,
                                    const std::string& nonce, const VmPaths& paths,
                                    VmRecord& record) {
    const v1::VmSpec& spec = record.spec;
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd qmp, listen_at(paths.qmp_socket()));
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd guard, listen_at(paths.guard_socket()));
    const UniqueFd log(
        ::open(paths.qemu_log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!log.valid()) return errno_status(errno, fmt::format("Cannot open {}", paths.qemu_log()));

    QemuArgvInputs inputs{.program = program,
                          .serial_log = paths.serial_log(),
                          .qmp_fd = qmp.get(),
                          .guard_fd = guard.get(),
                          .ram_files = record.ram_files,
                          .incoming = record.incoming};
    std::vector<int> keep_fds{qmp.get(), guard.get()};
    std::vector<UniqueFd> taps;
    for (int i = 0; i < spec.nics_size(); ++i) {
        inputs.tap_fds.push_back(-1);
        if (spec.nics(i).bridge().empty()) continue;
        GODWIT_ASSIGN_OR_RETURN(UniqueFd tap, create_tap(tap_name(state_dir, spec.name(), nonce, i),
                                                         spec.nics(i).bridge()));
        inputs.tap_fds.back() = tap.get();
        keep_fds.push_back(tap.get());
        taps.push_back(std::move(tap));
    }
    for (const v1::Disk& disk : spec.disks())
        inputs.disk_is_device.push_back(is_block_device(disk.path()));

    const SpawnRequest request{.program = program,
                               .argv = render_qemu_argv(spec, inputs),
                               .keep_fds = std::move(keep_fds),
                               .log_fd = log.get()};
    GODWIT_ASSIGN_OR_RETURN(Spawned spawned, spawn(request, [&](ProcessId id) {
                                record.process = id;
                                return write_record(record, paths.record());
                            }));
    return std::move(spawned.pidfd);
}

}  // namespace godwit
