#include "engine/guest/libvirt/define_domain.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

absl::Status lost(const std::string& why) {
    return absl::FailedPreconditionError(
        fmt::format("{}the guest runs, and libvirt has lost sight of its domain: see that there is "
                    "room for its definition and restart libvirtd, which finds it again; do not "
                    "define or start it anew",
                    why.empty() ? why : why + "; "));
}

// Whether libvirt still knows that run of it. Errors: Unavailable.
absl::StatusOr<bool> is_known(const ConnectHandle& connection, const std::string& uuid, int id) {
    const absl::StatusOr<DomainHandle> domain = domain_by_uuid(connection, uuid);
    if (absl::IsNotFound(domain.status())) return false;
    GODWIT_RETURN_IF_ERROR(domain.status());
    return static_cast<int>(virDomainGetID(domain->get())) == id;
}

}  // namespace

std::string definition_directory(const LibvirtConnection& libvirt) {
    if (const std::string root = libvirt.embedded_root(); !root.empty()) return root + "/etc/qemu";
    for (const char* local : {"qemu:///system", "qemu+unix:///system"})
        if (libvirt.uri().rfind(local, 0) == 0) return "/etc/libvirt/qemu";
    return {};
}

absl::Status try_to_write(const std::string& directory, const std::string& content) {
    if (directory.empty()) return absl::OkStatus();
    const UniqueFd file(::open(directory.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600));
    // libvirt makes the directory with its first definition.
    if (!file.valid() && errno == ENOENT && directory != "/")
        return try_to_write(std::filesystem::path(directory).parent_path().string(), content);
    // Not every file system has files without a name.
    if (!file.valid() && (errno == EOPNOTSUPP || errno == EISDIR)) return absl::OkStatus();
    const std::string what = fmt::format("Cannot write to {}", directory);
    if (!file.valid()) return errno_status(errno, what);
    for (size_t at = 0; at < content.size();) {
        const ssize_t written = ::write(file.get(), content.data() + at, content.size() - at);
        if (written < 0 && errno == EINTR) continue;
        if (written <= 0) return errno_status(written < 0 ? errno : ENOSPC, what);
        at += static_cast<size_t>(written);
    }
    return absl::OkStatus();
}

absl::Status define_running_domain(LibvirtConnection& libvirt, const std::string& uuid, int id,
                                   const std::string& definition) {
    GODWIT_ASSIGN_OR_RETURN(const ConnectHandle connection, libvirt.get());
    GODWIT_ASSIGN_OR_RETURN(const bool known, is_known(connection, uuid, id));
    if (!known) return lost("");
    if (const absl::Status room = try_to_write(definition_directory(libvirt), definition);
        !room.ok())
        return absl::FailedPreconditionError(room.message());
    const DomainHandle defined(virDomainDefineXML(connection.get(), definition.c_str()));
    if (defined) return absl::OkStatus();
    const absl::Status refused = libvirt_status("libvirt");
    GODWIT_ASSIGN_OR_RETURN(const bool still_known, is_known(connection, uuid, id));
    return still_known ? refused : lost(std::string(refused.message()));
}

}  // namespace godwit
