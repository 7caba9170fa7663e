// How much memory this host has, and has left for guests.
#pragma once

#include <span>

#include "engine/base/ram_block.h"
#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

struct HostMemory {
    Bytes total = 0;      // MemTotal
    Bytes available = 0;  // MemAvailable
};

// From /proc/meminfo. Errors: open's, Internal when a field is missing.
absl::StatusOr<HostMemory> read_host_memory();

// Guest memory is kept in RAM: a VM that is larger than the host would meet SIGBUS once it used it.
// With `overcommit` that is its operator's affair. Error: ResourceExhausted.
absl::Status check_fits(Bytes guest_memory, const HostMemory& host, bool overcommit);

// Whether the mounts of these files, which are empty, have room for the pages that are to come: a
// guest whose last pages follow it could not be given back when a mount is full. `promised` is what
// other guests will still take. Only tmpfs tells; hugetlbfs has reserved its pages by then. Errors:
// ResourceExhausted, statfs's.
absl::Status check_mounts_have_room(std::span<const RamBlock> blocks, Bytes to_come,
                                    Bytes promised);

// What a guest of which `touched` bytes are to come will still take of the mounts of `blocks`.
Bytes still_to_come(std::span<const RamBlock> guest, Bytes touched,
                    std::span<const RamBlock> blocks);

}  // namespace godwit
