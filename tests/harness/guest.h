// The guest that testifies, as a VM of a test agent.
#pragma once

#include <string>
#include <vector>

#include "bench/guest/mailbox_reader.h"
#include "tests/harness/agent.h"

namespace godwit::testing {

struct GuestOptions {
    std::string name = "vm";
    std::string memory = "256MiB";
    std::string accel = "kvm";  // kvm, tcg
    std::string backing = "thp";
    int vcpus = 1;
    std::string append = "ws=64M rate=20000";
    std::string extra;  // further lines of the VM file
};

// Why `accel` does not work here, or empty.
std::string missing(const std::string& accel);

// "kvm", or, said aloud, "tcg" where KVM does not work.
std::string accel_here();
// A guest that boots in a moment, for tests that are about something else.
GuestOptions small_guest(const std::string& name = "vm");

// Writes the VM file into `agent`'s state directory, starts the VM, waits until the guest says
// `running`. A failure of the test when any of it fails.
void start_guest(TestAgent& agent, const GuestOptions& options);
// The VM file alone; returns its path.
std::string write_vm_file(const TestAgent& agent, const GuestOptions& options);

// What the guest testifies where it is now.
struct Testimony {
    uint64_t ticks = 0;
    uint64_t writes = 0;
    uint64_t checked = 0;
    uint64_t errors = 0;  // of vCPUs and disk
    uint64_t disk_reads = 0;
    GuestState state = GuestState::kNone;
    std::string first_error;  // which page, what kind
};
Testimony testimony(TestAgent& agent, const std::string& vm);

// Waits until the guest has ticked and checked `pages` more pages at `agent`, without an error.
void expect_alive_and_well(TestAgent& agent, const std::string& vm, uint64_t pages = 1000);

// A disk image that the guest can check; returns its path, in the agent's state directory.
std::string make_guest_disk(const TestAgent& agent, const std::string& size);

// Where the Linux guest's kernel and initrd are, or empty.
std::string linux_guest_dir();

}  // namespace godwit::testing
