// The rules that a VmSpec obeys, wherever it came from: a VM file or a peer over gRPC.
#pragma once

#include <optional>
#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// Devices have fixed PCI addresses, so that both sides of a migration agree: hence the limits.
inline constexpr int kMaxNics = 8;
inline constexpr int kMaxDisks = 16;
inline constexpr int kMaxNumaNodes = 64;
inline constexpr uint32_t kMaxVcpus = 255;  // what a q35 without an interrupt remapper addresses
inline constexpr uint32_t kMaxHotplugSlots = 256;
inline constexpr Bytes kMaxMemoryBytes = Bytes{64} << 40;
inline constexpr size_t kMaxPathBytes = 4095;
inline constexpr size_t kMaxAppendBytes = 4096;

// Where a spec breaks a rule: `field` is the path as in a VM file ("nics[0].mac").
struct SpecFault {
    std::string field;
    std::string message;
};

// The first broken rule, nothing when all hold. Looks at the spec alone, never at the host: whether
// files, bridges and accelerators exist is Hypervisor::check()'s to say.
std::optional<SpecFault> find_spec_fault(const v1::VmSpec& spec);

// The same as a status. Error: InvalidArgument, "<field>: <what is wrong>".
absl::Status validate_spec(const v1::VmSpec& spec);

// Whether `name` may name a VM: 1–64 of [A-Za-z0-9._-], starting with a letter or digit.
bool is_vm_name(std::string_view name);

}  // namespace godwit
