#include "tools/godwitd/host_memory.h"

#include <fmt/format.h>

#include <fstream>
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

}  // namespace godwit
