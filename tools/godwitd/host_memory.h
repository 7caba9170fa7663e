// How much memory this host has, and has left for guests.
#pragma once

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

}  // namespace godwit
