// What QEMU's answers to our questions say: pure functions, for whatever JSON came as an answer.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/guest/qemu/qmp_message.h"

namespace godwit {

// query-cpus-fast: the threads of the vCPUs. What is no thread's id is left out.
std::vector<pid_t> vcpu_threads_of(const Json& reply);

// query-migrate: why QEMU would refuse.
std::vector<std::string> blocked_reasons_of(const Json& reply);

// query-memory-devices: DIMMs and their kind by id; one that was added without an id by its memory.
std::vector<std::string> memory_devices_of(const Json& reply);

}  // namespace godwit
