#include "dirty-tracking/writeprotect/ram_mappings.h"

#include <fmt/format.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <fstream>
#include <string>

namespace godwit {
namespace {

struct MapsLine {
    uint64_t begin = 0;
    uint64_t end = 0;
    Bytes offset = 0;
    bool shared = false;
    dev_t device = 0;
    ino_t inode = 0;
};

// "<begin>-<end> rw-s <offset> <major>:<minor> <inode> <path>", all but the inode hexadecimal.
bool parse_line(const std::string& text, MapsLine& line) {
    std::array<char, 5> access{};
    unsigned major = 0;
    unsigned minor = 0;
    if (std::sscanf(text.c_str(), "%lx-%lx %4s %lx %x:%x %lu", &line.begin, &line.end,
                    access.data(), &line.offset, &major, &minor, &line.inode) != 7)
        return false;
    line.shared = access[3] == 's';
    line.device = ::makedev(major, minor);
    return true;
}

bool lies_in(uint64_t address, std::span<const AddressRange> ranges) {
    return std::any_of(ranges.begin(), ranges.end(), [address](const AddressRange& range) {
        return range.begin <= address && address < range.end;
    });
}

bool covers(std::vector<RamMapping> mappings, Bytes size) {
    std::sort(mappings.begin(), mappings.end(),
              [](const auto& a, const auto& b) { return a.offset < b.offset; });
    Bytes covered = 0;
    for (const RamMapping& mapping : mappings) {
        if (mapping.offset > covered) break;
        covered = std::max(covered, mapping.offset + mapping.length);
    }
    return covered >= size;
}

}  // namespace

absl::StatusOr<std::vector<RamMapping>> find_ram_mappings(pid_t pid, const RamFile& file,
                                                          std::span<const AddressRange> excluded) {
    errno = 0;
    std::ifstream maps(fmt::format("/proc/{}/maps", pid));
    if (!maps) return errno_status(errno != 0 ? errno : ENOENT, fmt::format("/proc/{}/maps", pid));
    std::vector<RamMapping> mappings;
    bool has_memory = false;  // a process that ended and was not reaped yet has none
    for (std::string text; std::getline(maps, text); has_memory = true) {
        MapsLine line;
        if (!parse_line(text, line)) continue;
        if (line.device != file.device || line.inode != file.inode) continue;
        if (line.offset >= file.size || lies_in(line.begin, excluded)) continue;
        if (!line.shared) {
            return absl::FailedPreconditionError(fmt::format(
                "RAM block {}: the RAM file is not mapped shared by QEMU: start it with share=on",
                file.name));
        }
        mappings.push_back({.address = line.begin,
                            .offset = line.offset,
                            .length = std::min(line.end - line.begin, file.size - line.offset)});
    }
    if (!has_memory) return absl::NotFoundError(fmt::format("process {} ended", pid));
    if (mappings.empty()) {
        return absl::FailedPreconditionError(fmt::format(
            "RAM block {}: process {} does not map the RAM file: the RAM file is not mapped shared "
            "by QEMU: start it with share=on",
            file.name, pid));
    }
    if (!covers(mappings, file.size)) {
        return absl::FailedPreconditionError(fmt::format(
            "RAM block {}: process {} maps only a part of the RAM file", file.name, pid));
    }
    return mappings;
}

}  // namespace godwit
