// Whether this host has what a spec asks for.
#pragma once

#include "engine/base/status.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

// Boot files, disks, bridges and huge pages; the spec is valid already. Errors, each with the field
// in front: NotFound, PermissionDenied, FailedPrecondition.
absl::Status check_host(const v1::VmSpec& spec);

// Whether the path is a block device.
bool is_block_device(const std::string& path);

}  // namespace godwit
