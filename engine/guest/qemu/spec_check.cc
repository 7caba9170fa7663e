#include "engine/guest/qemu/spec_check.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <vector>

#include "engine/guest/disks/file_look.h"
#include "engine/guest/qemu/ram_mount.h"
#include "engine/guest/qemu/tap.h"

namespace godwit {
namespace {

absl::Status check_file(const HostFile& file) {
    if (file.path.empty()) return absl::OkStatus();
    struct stat info {};
    if (::stat(file.path.c_str(), &info) != 0)
        return errno_status(errno, fmt::format("{}: {}", file.what, file.path));
    if (!S_ISREG(info.st_mode) && !S_ISBLK(info.st_mode))
        return absl::FailedPreconditionError(
            fmt::format("{}: {} is neither a file nor a block device", file.what, file.path));
    if (::access(file.path.c_str(), file.access) != 0)
        return errno_status(errno, fmt::format("{}: {}", file.what, file.path));
    return absl::OkStatus();
}

}  // namespace

absl::Status check_host(const v1::VmSpec& spec) {
    std::vector<HostFile> files{
        {"kernel", spec.kernel()}, {"initrd", spec.initrd()}, {"firmware", spec.firmware()}};
    for (int i = 0; i < spec.disks_size(); ++i)
        files.push_back({fmt::format("disks[{}].path", i), spec.disks(i).path(),
                         spec.disks(i).readonly() ? R_OK : R_OK | W_OK});
    GODWIT_RETURN_IF_ERROR(look_at_files(std::move(files), check_file));
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
