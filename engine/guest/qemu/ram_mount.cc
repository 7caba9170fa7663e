#include "engine/guest/qemu/ram_mount.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <filesystem>
#include <fstream>

namespace godwit {
namespace {

// Guest RAM is data, whatever lies in it.
constexpr unsigned long kMountFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

struct Kind {
    const char* directory;
    const char* file_system;
    decltype(statfs::f_type) magic;
    // size=100%: a limit below the host's RAM would only turn a full host into a SIGBUS earlier; a
    // sparse file may be larger than the limit.
    const char* options;
    const char* fallback;  // for a kernel before 6.4, without noswap; null: none
};

const Kind& kind_of(v1::MemoryBacking backing) {
    static constexpr std::array<Kind, 3> kKinds{{
        {"ram-thp", "tmpfs", TMPFS_MAGIC, "mode=0700,size=100%,huge=always,noswap",
         "mode=0700,size=100%,huge=always"},
        {"ram-4k", "tmpfs", TMPFS_MAGIC, "mode=0700,size=100%,huge=never,noswap",
         "mode=0700,size=100%,huge=never"},
        {"ram-hugetlb-2M", "hugetlbfs", HUGETLBFS_MAGIC, "mode=0700,pagesize=2M", nullptr},
    }};
    return kKinds[static_cast<size_t>(backing)];
}

// Whether our mount is there: the right file system, and another one than its parent's.
bool is_mounted(const std::string& directory, const Kind& kind) {
    struct stat own {};
    struct stat parent {};
    struct statfs file_system {};
    return ::stat(directory.c_str(), &own) == 0 &&
           ::stat((directory + "/..").c_str(), &parent) == 0 && own.st_dev != parent.st_dev &&
           ::statfs(directory.c_str(), &file_system) == 0 && file_system.f_type == kind.magic;
}

uint64_t read_number(const std::string& path) {
    std::ifstream in(path);
    uint64_t number = 0;
    in >> number;
    return number;
}

}  // namespace

Backing backing_of(v1::MemoryBacking backing) {
    switch (backing) {
        case v1::MEMORY_BACKING_4K:
            return Backing::kTmpfs4k;
        case v1::MEMORY_BACKING_HUGETLB_2M:
            return Backing::kHugetlb2M;
        default:
            return Backing::kTmpfsHuge;
    }
}

std::string RamMounts::directory(v1::MemoryBacking backing) const {
    return fmt::format("{}/{}", state_dir_, kind_of(backing).directory);
}

std::string RamMounts::file_path(v1::MemoryBacking backing, const std::string& file_name) const {
    return fmt::format("{}/{}", directory(backing), file_name);
}

absl::Status RamMounts::mount_if_needed(v1::MemoryBacking backing) {
    const Kind& kind = kind_of(backing);
    const std::string target = directory(backing);
    if (is_mounted(target, kind)) return absl::OkStatus();
    if (::mkdir(target.c_str(), 0700) != 0 && errno != EEXIST)
        return errno_status(errno, fmt::format("Cannot create {}", target));
    if (::mount("godwit", target.c_str(), kind.file_system, kMountFlags, kind.options) == 0)
        return absl::OkStatus();
    if (errno == EINVAL && kind.fallback != nullptr &&
        ::mount("godwit", target.c_str(), kind.file_system, kMountFlags, kind.fallback) == 0)
        return absl::OkStatus();
    const absl::Status status = errno_status(
        errno, fmt::format("Cannot mount {} at {} for guest RAM", kind.file_system, target));
    ::rmdir(target.c_str());
    if (!absl::IsPermissionDenied(status)) return status;
    return absl::PermissionDeniedError(
        fmt::format("{}; the agent needs CAP_SYS_ADMIN", std::string(status.message())));
}

absl::Status RamMounts::create_file(v1::MemoryBacking backing, const std::string& path,
                                    Bytes size) {
    const std::lock_guard lock(mutex_);
    GODWIT_RETURN_IF_ERROR(mount_if_needed(backing));
    const UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    if (!file.valid()) return errno_status(errno, fmt::format("Cannot create RAM file {}", path));
    if (::ftruncate(file.get(), static_cast<off_t>(size)) == 0) return absl::OkStatus();
    const absl::Status status = errno_status(
        errno, fmt::format("Cannot give RAM file {} its {}", path, format_bytes(size)));
    ::unlink(path.c_str());
    return status;
}

void RamMounts::release_unused() {
    const std::lock_guard lock(mutex_);
    for (const auto backing :
         {v1::MEMORY_BACKING_THP, v1::MEMORY_BACKING_4K, v1::MEMORY_BACKING_HUGETLB_2M}) {
        const std::string target = directory(backing);
        std::error_code error;
        if (!is_mounted(target, kind_of(backing)) || !std::filesystem::is_empty(target, error) ||
            error)
            continue;
        // Not MNT_DETACH: a file that somebody still has open keeps its mount (EBUSY).
        if (::umount2(target.c_str(), UMOUNT_NOFOLLOW) == 0) ::rmdir(target.c_str());
    }
}

absl::Status check_free_huge_pages(Bytes bytes) {
    const std::string sysfs = "/sys/kernel/mm/hugepages/hugepages-2048kB/";
    const uint64_t free_count = read_number(sysfs + "free_hugepages");
    const uint64_t reserved_count = read_number(sysfs + "resv_hugepages");
    const uint64_t overcommit_count = read_number(sysfs + "nr_overcommit_hugepages");
    const uint64_t surplus_count = read_number(sysfs + "surplus_hugepages");
    const uint64_t usable_count =
        (free_count > reserved_count ? free_count - reserved_count : 0) +
        (overcommit_count > surplus_count ? overcommit_count - surplus_count : 0);
    const uint64_t wanted_count = bytes / kChunkBytes;
    if (usable_count >= wanted_count) return absl::OkStatus();
    return absl::FailedPreconditionError(fmt::format(
        "memory_backing: hugetlb-2M needs {} free huge pages and the host has {}; reserve more in "
        "/proc/sys/vm/nr_hugepages",
        wanted_count, usable_count));
}

absl::Status punch_all(const RamBlock& block) {
    if (::fallocate(block.file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
                    static_cast<off_t>(block.size)) == 0)
        return absl::OkStatus();
    return errno_status(errno, fmt::format("Cannot empty RAM file {}", block.path));
}

}  // namespace godwit
