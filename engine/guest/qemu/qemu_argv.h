// QEMU's command line: a pure function of the resolved spec and of what the agent has prepared.
// No text of a peer ever becomes an option of its own.
#pragma once

#include <string>
#include <vector>

#include "engine/base/units.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

struct QemuArgvInputs {
    std::string program;
    std::string serial_log;              // absolute path
    std::string vnc_socket;              // absolute path
    int qmp_fd = -1;                     // listening unix socket of the agent
    int guard_fd = -1;                   // listening unix socket of the guard
    std::vector<std::string> ram_files;  // one, or one per NUMA node
    std::vector<int> tap_fds;            // one per NIC; -1: user network
    std::vector<bool> disk_is_device;    // one per disk: a block device, not a file
    bool incoming = false;
};

// Names in the guest's device tree, the same on both sides of a migration: ram0…, disk0… (block
// nodes), vdisk0…, nic0…, balloon0, vga0. PCI addresses are fixed: VGA 1, NICs from 2, the balloon
// at 0xa, disks from 0xb. `spec` is valid and resolved, the vectors have the sizes above.
std::vector<std::string> render_qemu_argv(const v1::VmSpec& spec, const QemuArgvInputs& inputs);

// Sizes of the RAM blocks, in the order of their names.
std::vector<Bytes> ram_block_sizes(const v1::VmSpec& spec);

// A value within a list of options: every comma doubled, as QEMU reads them.
std::string escape_commas(const std::string& value);

}  // namespace godwit
