// The VM that QEMU makes, and what it switches on in it.
#pragma once

namespace godwit::resident {

// QEMU's calls.
int create_vm(int kvm, unsigned long request, void* argument);
int enable_capability(int vm, unsigned long request, void* argument);

}  // namespace godwit::resident
