// What this host's KVM can do (Documentation/virt/kvm/api.rst).
#pragma once

#include <string>

namespace godwit {

// Whether /dev/kvm opens and speaks API version 12.
bool probe_kvm();

// The CPU model for a guest under KVM that asks for none: "host", without what KVM offers and then
// refuses. A software-assisted KVM may list IA32_ARCH_CAPABILITIES and fail to set it, and QEMU
// ends with an assertion when that happens (seen with kvm-pvm and QEMU 7.2). Makes a VM and a vCPU
// to try: call it once.
std::string default_kvm_cpu();

}  // namespace godwit
