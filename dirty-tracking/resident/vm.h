// The VM that QEMU makes, and what it switches on in it.
#pragma once

namespace godwit::resident {

// QEMU's calls. Whatever was known of an earlier VM is forgotten, unless it is in use: a process
// with two VMs has no log.
int create_vm(int kvm, unsigned long request, void* argument);
int enable_capability(int vm, unsigned long request, void* argument);

}  // namespace godwit::resident
