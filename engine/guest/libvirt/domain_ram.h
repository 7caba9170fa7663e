// Where a domain's RAM is: what QEMU's command line says, and what Godwit needs of it.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/base/ram_block.h"
#include "engine/base/status.h"

namespace godwit {

struct MemoryBackend {
    std::string type;  // memory-backend-file, memory-backend-memfd, memory-backend-ram
    std::string id;    // pc.ram, ram-node0, …
    std::string path;
    bool is_shared = false;
};

// The memory backends among the arguments (`-object` with JSON, as libvirt has written it since
// 7.0). Anything else is passed over.
std::vector<MemoryBackend> memory_backends(const std::vector<std::string>& argv);

// Arguments of a running process. Error: NotFound when it has ended.
absl::StatusOr<std::vector<std::string>> arguments_of(pid_t pid);

struct DomainRam {
    std::vector<RamBlock> blocks;       // empty when there are problems
    std::vector<std::string> problems;  // each with the setting to change
};

// Opens the RAM files of a running QEMU. Links that keep them go beside its directory, which
// libvirt removes. Errors: those of the system calls.
absl::StatusOr<DomainRam> open_domain_ram(pid_t pid);

}  // namespace godwit
