// What a VM leaves on disk: its directory, its record (vm.json), its RAM files.
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/guest/qemu/process.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// Names within <state>/vms/<name>/, a directory of mode 0700.
struct VmPaths {
    std::string directory;
    bool through_guard = false;  // QMP through the monitor that is kept for the guard
    [[nodiscard]] std::string record() const { return directory + "/vm.json"; }
    [[nodiscard]] std::string qmp_socket() const {
        return through_guard ? guard_socket() : directory + "/qmp.sock";
    }
    [[nodiscard]] std::string guard_socket() const { return directory + "/guard.sock"; }
    [[nodiscard]] std::string resident_socket() const { return directory + "/resident.sock"; }
    [[nodiscard]] std::string vnc_socket() const { return directory + "/vnc.sock"; }
    [[nodiscard]] std::string serial_log() const { return directory + "/serial.log"; }
    [[nodiscard]] std::string qemu_log() const { return directory + "/qemu.log"; }
};

VmPaths vm_paths(const std::string& state_dir, const std::string& vm_name);

// Written before QEMU runs, so that no QEMU is ever without one.
struct VmRecord {
    v1::VmSpec spec;  // resolved
    ProcessId process;
    bool incoming = false;               // started to wait for a migration
    std::vector<std::string> ram_files;  // absolute paths, one per RAM block: ram0, ram1, …
};

// Replaces the file in one step. Errors: those of the system calls.
absl::Status write_record(const VmRecord& record, const std::string& path);
// Errors: DataLoss. A record is our own file, but a damaged one must not end the agent.
absl::StatusOr<VmRecord> parse_record(const std::string& text);
// Errors: NotFound, DataLoss when the file is no record.
absl::StatusOr<VmRecord> read_record(const std::string& path);

// Removes the RAM files, then the directory with everything in it. What is gone already is no
// error.
absl::Status remove_vm_files(const VmPaths& paths, const std::vector<std::string>& ram_files);

// The last lines that QEMU wrote to its log, on one line; "" when there is none.
std::string last_words(const std::string& qemu_log);

// 8 hexadecimal digits that no other VM of this host has had.
std::string make_nonce();

}  // namespace godwit
