#include "engine/guest/qemu/qemu_start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "engine/guest/qemu/spec_check.h"
#include "engine/guest/qemu/tap.h"

namespace godwit {
namespace {

// `type`: SOCK_STREAM, SOCK_SEQPACKET.
absl::StatusOr<UniqueFd> listen_at(const std::string& path, int type) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    UniqueFd socket(::socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
    if (!socket.valid()) return errno_status(errno, "socket");
    // One client at a time is served; the others wait in the backlog.
    if (::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(socket.get(), 4) != 0)
        return errno_status(errno, fmt::format("Cannot listen at {}", path));
    return socket;
}

// The dynamic linker reads colons and spaces as separators.
bool can_be_preloaded(const std::string& library) {
    return library.find_first_of(": ") == std::string::npos;
}

// The library, in front of what we were started with ourselves.
std::string preload_entry(const std::string& library) {
    const char* others =
        std::getenv("LD_PRELOAD");  // NOLINT(concurrency-mt-unsafe): nobody sets it
    std::string entry = "LD_PRELOAD=" + library;
    if (others != nullptr && *others != '\0') entry.append(":").append(others);
    return entry;
}

}  // namespace

absl::Status check_socket_path(const VmPaths& paths) {
    const std::string longest = paths.resident_socket();
    if (longest.size() < sizeof(sockaddr_un::sun_path)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        fmt::format("{} is {} bytes too long for a unix socket; use a shorter --state-dir", longest,
                    longest.size() + 1 - sizeof(sockaddr_un::sun_path)));
}

absl::StatusOr<UniqueFd> start_qemu(const QemuStart& start, VmRecord& record) {
    const v1::VmSpec& spec = record.spec;
    const VmPaths& paths = start.paths;
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd qmp, listen_at(paths.qmp_socket(), SOCK_STREAM));
    GODWIT_ASSIGN_OR_RETURN(const UniqueFd guard, listen_at(paths.guard_socket(), SOCK_STREAM));
    const UniqueFd log(
        ::open(paths.qemu_log().c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (!log.valid()) return errno_status(errno, fmt::format("Cannot open {}", paths.qemu_log()));

    QemuArgvInputs inputs{.program = start.program,
                          .serial_log = paths.serial_log(),
                          .vnc_socket = paths.vnc_socket(),
                          .qmp_fd = qmp.get(),
                          .guard_fd = guard.get(),
                          .ram_files = record.ram_files,
                          .incoming = record.incoming};
    std::vector<int> keep_fds{qmp.get(), guard.get()};
    std::vector<UniqueFd> taps;
    for (int i = 0; i < spec.nics_size(); ++i) {
        inputs.tap_fds.push_back(-1);
        if (spec.nics(i).bridge().empty()) continue;
        GODWIT_ASSIGN_OR_RETURN(UniqueFd tap,
                                create_tap(tap_name(start.state_dir, spec.name(), start.nonce, i),
                                           spec.nics(i).bridge()));
        inputs.tap_fds.back() = tap.get();
        keep_fds.push_back(tap.get());
        taps.push_back(std::move(tap));
    }
    for (const v1::Disk& disk : spec.disks())
        inputs.disk_is_device.push_back(is_block_device(disk.path()));

    UniqueFd resident;
    std::vector<std::string> environment;
    if (!spec.no_resident() && can_be_preloaded(start.resident_library) &&
        !start.resident_library.empty()) {
        GODWIT_ASSIGN_OR_RETURN(resident, listen_at(paths.resident_socket(), SOCK_SEQPACKET));
        environment = {preload_entry(start.resident_library),
                       fmt::format("GODWIT_RESIDENT_FD={}", resident.get())};
        keep_fds.push_back(resident.get());
    }

    const SpawnRequest request{.program = start.program,
                               .argv = render_qemu_argv(spec, inputs),
                               .environment = std::move(environment),
                               .keep_fds = std::move(keep_fds),
                               .log_fd = log.get()};
    GODWIT_ASSIGN_OR_RETURN(Spawned spawned, spawn(request, [&](ProcessId id) {
                                record.process = id;
                                return write_record(record, paths.record());
                            }));
    return std::move(spawned.pidfd);
}

}  // namespace godwit
