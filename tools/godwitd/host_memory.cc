#include "tools/godwitd/host_memory.h"

#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <set>
#include <string>

namespace godwit {

absl::StatusOr<HostMemory> read_host_memory() {
    std::ifstream file("/proc/meminfo");
    HostMemory memory;
    std::string field, unit;
    Bytes kibibytes = 0;
    while (file >> field >> kibibytes) {
        std::getline(file, unit);
        if (field == "MemTotal:") memory.total = kibibytes << 10;
        if (field == "MemAvailable:") memory.available = kibibytes << 10;
    }
    if (memory.total == 0 || memory.available == 0)
        return absl::InternalError("/proc/meminfo has no MemTotal or MemAvailable");
    return memory;
}

absl::Status check_fits(Bytes guest_memory, const HostMemory& host, bool overcommit) {
    if (overcommit || guest_memory <= host.total) return absl::OkStatus();
    return absl::ResourceExhaustedError(
        fmt::format("No room: the VM has {}, and this host {}; an agent started with --overcommit "
                    "takes it, for a guest that never uses so much",
                    format_bytes(guest_memory), format_bytes(host.total)));
}

Bytes still_to_come(std::span<const RamBlock> guest, Bytes touched,
                    std::span<const RamBlock> blocks) {
    Bytes there = 0;
    bool same_mount = false;
    for (const RamBlock& block : guest) {
        same_mount |= std::any_of(blocks.begin(), blocks.end(), [&](const RamBlock& other) {
            return other.device == block.device;
        });
        struct stat file {};
        if (::fstat(block.file.get(), &file) == 0)
            there += static_cast<Bytes>(file.st_blocks) * 512;
    }
    return same_mount && touched > there ? touched - there : 0;
}

absl::Status check_mounts_have_room(std::span<const RamBlock> blocks, Bytes to_come,
                                    Bytes promised) {
    Bytes left = 0;
    std::set<dev_t> seen;
    for (const RamBlock& block : blocks) {
        if (!seen.insert(block.device).second) continue;
        struct statfs fs {};
        if (::fstatfs(block.file.get(), &fs) != 0) return errno_status(errno, block.path);
        // Without blocks it has no limit of its own.
        if (fs.f_type != TMPFS_MAGIC || fs.f_blocks == 0) return absl::OkStatus();
        left += fs.f_bavail * static_cast<Bytes>(fs.f_bsize);
    }
    if (blocks.empty() || (promised <= left && to_come <= left - promised)) return absl::OkStatus();
    const std::string of_others =
        promised == 0
            ? ""
            : fmt::format(" ({} of that for others on their way)", format_bytes(promised));
    return absl::ResourceExhaustedError(fmt::format(
        "No room: the VM has touched {}, and {} are left on the tmpfs of {}{}: mount it with "
        "more (mount -o remount,size=…)",
        format_bytes(to_come), format_bytes(left), blocks.front().path, of_others));
}

}  // namespace godwit
