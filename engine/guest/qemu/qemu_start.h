// Starting one QEMU: its sockets, TAPs and log, and the process itself.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/guest/qemu/qemu_argv.h"
#include "engine/guest/qemu/vm_record.h"

namespace godwit {

// Whether the sockets of a VM fit into sun_path (108 bytes). Error: InvalidArgument.
absl::Status check_socket_path(const VmPaths& paths);

struct QemuStart {
    std::string program;
    std::string resident_library;  // preloaded unless it is empty or the spec says otherwise
    std::string state_dir;
    std::string nonce;
    VmPaths paths;
};

// Runs start.program for the record's spec, whose directory and RAM files are there, and notes the
// process in the record (in memory and on disk) before QEMU runs. The agent makes the QMP sockets
// itself and QEMU inherits them, so a connection succeeds at once and waits for the greeting: there
// is nothing to poll for. Returns the pidfd. Errors: those of the system calls; no process is left.
absl::StatusOr<UniqueFd> start_qemu(const QemuStart& start, VmRecord& record);

}  // namespace godwit
