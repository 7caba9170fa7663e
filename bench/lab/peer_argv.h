// The guest that every engine moves, and the command line of a QEMU that runs it by itself.
#pragma once

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

struct GuestConfig {
    Bytes memory = 0;
    Bytes working_set = 0;
    uint64_t writes_per_s = 0;    // 0: flat out
    bool idle = false;            // writes nothing after the first fill
    std::string backing = "thp";  // of shared RAM: thp, 4k, hugetlb-2M
    std::string content;          // further words, as "fill=text change=64"; may be empty
    uint64_t seed = 1;
    bool kvm = false;
    std::string cpu;       // QEMU's model
    std::string kernel;    // guest.elf; no spaces in its path
    std::string firmware;  // empty: QEMU's own
    std::string append;    // the guest's whole command line; empty: guest_append()
    // A Linux guest with a service for a client outside (bench/guest/linux) instead of guest.elf;
    // it has no mailbox.
    bool service = false;
    std::string initrd, disk;  // a service's; disk: a raw image, the same on both hosts
    std::string bridge, mac;   // its NIC's
};

// The guest's command line (bench/guest/README.md). One that writes sweeps nothing: that would
// fetch all pages soon, which is for the engine to do. An idle one sweeps a little, and so sees
// errors.
std::string guest_append(const GuestConfig& guest);

// "thp", "4k" or "hugetlb-2M" as the agent has it; thp for anything else.
v1::MemoryBacking memory_backing(const GuestConfig& guest);

// Sizes that a guest can have. Error: InvalidArgument.
absl::Status check_guest(const GuestConfig& guest);

struct PeerSetup {
    std::string program;
    std::vector<std::string> wrapper;  // in front of it; must become it, so that the pid is QEMU's
    GuestConfig guest;
    std::string ram_file;   // empty: QEMU's own private memory, its default
    int qmp_fd = -1;        // a connected socket
    int tap_fd = -1;        // of a guest with a bridge
    bool incoming = false;  // waits for migrate-incoming
    bool paused = false;    // -S
};

std::vector<std::string> peer_argv(const PeerSetup& setup);

}  // namespace godwit
