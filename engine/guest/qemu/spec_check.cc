#include "engine/guest/qemu/spec_check.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <initializer_list>

#include "engine/guest/qemu/ram_mount.h"
#include "engine/guest/qemu/tap.h"

namespace godwit {
namespace {

absl::Status check_file(const std::string& field, const std::string& path, int access_mode) {
    if (path.empty()) return absl::OkStatus();
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0)
        return errno_status(errno, fmt::format("{}: {}", field, path));
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return absl::FailedPreconditionError(
            fmt::format("{}: {} is neither a file nor a block device", field, path));
    if (::access(path.c_str(), access_mode) != 0)
        return errno_status(errno, fmt::format("{}: {}", field, path));
    return absl::OkStatus();
}

}  // namespace

absl::Status check_host(const v1::VmSpec& spec) {
    GODWIT_RETURN_IF_ERROR(check_file("kernel", spec.kernel(), R_OK));
    GODWIT_RETURN_IF_ERROR(check_file("initrd", spec.initrd(), R_OK));
    GODWIT_RETURN_IF_ERROR(check_file("firmware", spec.firmware(), R_OK));
    for (int i = 0; i < spec.disks_size(); ++i)
        GODWIT_RETURN_IF_ERROR(check_file(fmt::format("disks[{}].path", i), spec.disks(i).path(),
                                          spec.disks(i).readonly() ? R_OK : R_OK | W_OK));
    for (int i = 0; i < spec.nics_size(); ++i)
        if (!spec.nics(i).bridge().empty())
            GODWIT_RETURN_IF_ERROR(
                annotate(check_bridge(spec.nics(i).bridge()), fmt::format("nics[{}].bridge", i)));
    if (spec.memory_backing() == v1::MEMORY_BACKING_HUGETLB_2M)
        GODWIT_RETURN_IF_ERROR(check_free_huge_pages(spec.memory_bytes()));
    return absl::OkStatus();
}

bool is_block_device(const std::string& path) {
    struct stat info {};
    return ::stat(path.c_str(), &info) == 0 && S_ISBLK(info.st_mode);
}

}  // namespace godwit
