#include "dirty-tracking/writeprotect/file_mappings.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/sysmacros.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>

#include "dirty-tracking/resident/procmap_query.h"
#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

std::string maps_path(pid_t pid) { return fmt::format("/proc/{}/maps", pid); }

absl::Status ended(pid_t pid) { return absl::NotFoundError(fmt::format("process {} ended", pid)); }

// "<begin>-<end> rw-s <offset> <major>:<minor> <inode> <path>", all but the inode hexadecimal.
bool parse_line(const std::string& text, FileMapping& mapping) {
    std::array<char, 5> access{};
    unsigned major = 0;
    unsigned minor = 0;
    if (std::sscanf(text.c_str(), "%lx-%lx %4s %lx %x:%x %lu", &mapping.begin, &mapping.end,
                    access.data(), &mapping.offset, &major, &minor, &mapping.inode) != 7)
        return false;
    mapping.shared = access[3] == 's';
    mapping.device = ::makedev(major, minor);
    return true;
}

}  // namespace

absl::StatusOr<std::vector<FileMapping>> query_file_mappings(pid_t pid) {
    const UniqueFd maps(::open(maps_path(pid).c_str(), O_RDONLY | O_CLOEXEC));
    if (!maps.valid()) return errno_status(errno, maps_path(pid));
    std::vector<FileMapping> mappings;
    ProcmapQuery query{};
    query.size = sizeof(query);
    query.query_flags = kProcmapThisOrNext | kProcmapOfFile;
    while (::ioctl(maps.get(), kProcmapQuery, &query) == 0) {
        mappings.push_back({.begin = query.begin,
                            .end = query.end,
                            .offset = query.offset,
                            .shared = (query.flags & kProcmapShared) != 0,
                            .device = ::makedev(query.device_major, query.device_minor),
                            .inode = query.inode});
        query.query_address = query.end;
    }
    switch (errno) {
        case ENOENT:
            return mappings;
        case ESRCH:
            return ended(pid);
        case ENOTTY:
            return absl::UnimplementedError("this kernel has no PROCMAP_QUERY (Linux 6.11)");
        default:
            return errno_status(errno, fmt::format("PROCMAP_QUERY of {}", maps_path(pid)));
    }
}

absl::StatusOr<std::vector<FileMapping>> read_file_mappings(pid_t pid) {
    errno = 0;
    std::ifstream maps(maps_path(pid));
    if (!maps) return errno_status(errno != 0 ? errno : ENOENT, maps_path(pid));
    std::vector<FileMapping> mappings;
    bool has_memory = false;  // a process that ended and was not reaped yet has none
    for (std::string text; std::getline(maps, text); has_memory = true) {
        FileMapping mapping;
        if (parse_line(text, mapping) && mapping.inode != 0) mappings.push_back(mapping);
    }
    if (!has_memory) return ended(pid);
    return mappings;
}

absl::StatusOr<std::vector<FileMapping>> file_mappings(pid_t pid) {
    absl::StatusOr<std::vector<FileMapping>> mappings = query_file_mappings(pid);
    return absl::IsUnimplemented(mappings.status()) ? read_file_mappings(pid) : mappings;
}

}  // namespace godwit
