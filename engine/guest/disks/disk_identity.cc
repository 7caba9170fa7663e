#include "engine/guest/disks/disk_identity.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>

#include "engine/base/boot_id.h"

namespace godwit {
namespace {

// From statfs(2); <linux/magic.h> has only some.
constexpr uint32_t kExt4 = 0xEF53;  // and its ancestors
constexpr uint32_t kXfs = 0x58465342;
constexpr uint32_t kBtrfs = 0x9123683E;
constexpr uint32_t kF2fs = 0xF2F52010;
constexpr std::array<uint32_t, 5> kOfOneHost{kExt4, kXfs, kBtrfs, kF2fs, TMPFS_MAGIC};

// The first line, without what surrounds it; empty where there is none.
std::string attribute(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string text;
    std::getline(file, text);
    const size_t begin = text.find_first_not_of(' ');
    if (begin == std::string::npos) return "";
    return text.substr(begin, text.find_last_not_of(' ') + 1 - begin);
}

DiskIdentity of_file(const std::string& path, const struct statx& file,
                     const DiskSources& sources) {
    struct statfs fs {};
    if (::statfs(path.c_str(), &fs) != 0) return {.kind = "a file"};
    const auto magic = static_cast<uint32_t>(fs.f_type);
    if (std::find(kOfOneHost.begin(), kOfOneHost.end(), magic) == kOfOneHost.end())
        return {.kind = "a file on a file system that several hosts may have"};
    DiskIdentity identity{.kind = "a file on a file system of one host"};
    if (sources.boot_id.empty()) return identity;
    identity.id = fmt::format("{} {}:{} {}", sources.boot_id, file.stx_dev_major,
                              file.stx_dev_minor, file.stx_ino);
    // Inode numbers come again.
    if ((file.stx_mask & STATX_BTIME) != 0)
        identity.id += fmt::format(" {}.{}", file.stx_btime.tv_sec, file.stx_btime.tv_nsec);
    return identity;
}

DiskIdentity of_whole_device(const std::filesystem::path& device) {
    // Other maps have names in theirs that a host may choose.
    const std::string map = attribute(device / "dm" / "uuid");
    if (map.rfind("LVM-", 0) == 0) return {.kind = "a logical volume", .id = map};
    if (map.rfind("mpath-", 0) == 0) return {.kind = "a multipath device", .id = map};
    for (const char* place : {"wwid", "device/wwid"}) {
        const std::string id = attribute(device / place);
        // A device may have several ids, and which one a kernel takes is seen by its beginning.
        const std::string type = id.substr(0, id.find('.'));
        const bool is_word = std::all_of(type.begin(), type.end(), [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0;
        });
        if (!type.empty() && type.size() + 1 < id.size() && is_word)
            return {.kind = fmt::format("a device with a {} id", type), .id = id};
    }
    return {.kind = "a device without an id of its own"};
}

}  // namespace

DiskSources this_host() { return {.boot_id = boot_id()}; }

DiskIdentity device_identity(unsigned int major, unsigned int minor, const std::string& sysfs) {
    std::error_code error;
    const std::filesystem::path device =
        std::filesystem::canonical(fmt::format("{}/dev/block/{}:{}", sysfs, major, minor), error);
    if (error) return {.kind = "a device that sysfs does not have"};
    const std::string partition = attribute(device / "partition");
    if (partition.empty()) return of_whole_device(device);
    DiskIdentity identity = of_whole_device(device.parent_path());
    identity.kind = "a partition of " + identity.kind;
    if (!identity.id.empty()) identity.id += fmt::format(" partition {}", partition);
    return identity;
}

DiskIdentity disk_identity(const std::string& path, const DiskSources& sources) {
    if (path.empty()) return {.kind = "network storage"};
    struct statx file {};
    if (::statx(AT_FDCWD, path.c_str(), 0, STATX_TYPE | STATX_INO | STATX_BTIME, &file) != 0)
        return {.kind = "not there"};
    if (S_ISREG(file.stx_mode)) return of_file(path, file, sources);
    if (S_ISBLK(file.stx_mode))
        return device_identity(file.stx_rdev_major, file.stx_rdev_minor, sources.sysfs);
    return {.kind = "neither a file nor a block device"};
}

}  // namespace godwit
