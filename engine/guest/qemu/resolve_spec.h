// From what a user asked for to what runs: every default made concrete, so that the destination of
// a migration starts the very same machine.
#pragma once

#include <map>
#include <string>

#include "engine/base/status.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// Machine type → versioned machine type ("q35" → "pc-q35-7.2"; a versioned one maps to itself).
using MachineTypes = std::map<std::string, std::string>;

// Reads the output of `qemu -machine help`.
MachineTypes parse_machine_help(const std::string& text);

// Fills in accelerator, machine, CPU (`kvm_cpu` under KVM), UUID, MACs, vCPUs and disk formats. The
// spec is valid already.
// Errors: FailedPrecondition when KVM is asked for and does not work, InvalidArgument for a machine
// type that this QEMU does not have.
absl::StatusOr<v1::VmSpec> resolve_spec(const v1::VmSpec& spec, bool has_kvm,
                                        const MachineTypes& machines,
                                        const std::string& kvm_cpu = "host");

}  // namespace godwit
