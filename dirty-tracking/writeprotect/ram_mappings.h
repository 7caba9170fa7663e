// Where a process maps a RAM block's file.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// One view (or a part of one): `length` bytes of the file from `offset` are at `address`.
struct RamMapping {
    uint64_t address = 0;
    Bytes offset = 0;
    Bytes length = 0;
    bool operator==(const RamMapping&) const = default;
};

struct AddressRange {
    uint64_t begin = 0;
    uint64_t end = 0;
};

struct RamFile {
    std::string_view name;  // for error messages
    dev_t device = 0;
    ino_t inode = 0;
    Bytes size = 0;
};

// All mappings of the file in that process, by device and inode, ascending in address; parts
// beyond `size` are cut off. Mappings that begin within one of the `excluded` ranges do not exist
// for this. Errors: NotFound (no such process); PermissionDenied; FailedPrecondition when the file
// is not mapped, mapped privately, or not mapped as a whole.
absl::StatusOr<std::vector<RamMapping>> find_ram_mappings(
    pid_t pid, const RamFile& file, std::span<const AddressRange> excluded = {});

}  // namespace godwit
