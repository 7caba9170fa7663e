// TAP devices on a bridge: the network of a VM. A TAP vanishes with its last descriptor.
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// "gw" and 8 hexadecimal digits of a hash of what tells one NIC of one VM of one agent from
// another.
std::string tap_name(const std::string& state_dir, const std::string& vm_name,
                     const std::string& nonce, int nic_index);

// Error: NotFound when there is no such bridge on this host.
absl::Status check_bridge(const std::string& bridge);

// Makes a TAP with virtio-net headers, puts it on the bridge and sets it up. Errors: those of the
// system calls (PermissionDenied without CAP_NET_ADMIN); nothing is left then.
absl::StatusOr<UniqueFd> create_tap(const std::string& name, const std::string& bridge);

}  // namespace godwit
