#include "dirty-tracking/writeprotect/ram_mappings.h"

#include <fmt/format.h>

#include <algorithm>

#include "dirty-tracking/writeprotect/file_mappings.h"

namespace godwit {
namespace {

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
    GODWIT_ASSIGN_OR_RETURN(const std::vector<FileMapping> all, file_mappings(pid));
    std::vector<RamMapping> mappings;
    for (const FileMapping& one : all) {
        if (one.device != file.device || one.inode != file.inode) continue;
        if (one.offset >= file.size || lies_in(one.begin, excluded)) continue;
        if (!one.shared) {
            return absl::FailedPreconditionError(fmt::format(
                "RAM block {}: the RAM file is not mapped shared by QEMU: start it with share=on",
                file.name));
        }
        mappings.push_back({.address = one.begin,
                            .offset = one.offset,
                            .length = std::min(one.end - one.begin, file.size - one.offset)});
    }
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
