// libvirt's own migration of a domain.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "engine/guest/hypervisor.h"
#include "engine/guest/libvirt/connection.h"

namespace godwit {

// From one libvirtd to the other (peer to peer), with auto-converge, so that it ends. As
// Vm::move_natively(). The domain is watched by one connection while another is busy moving it.
// DeadlineExceeded when the process ends and libvirt does not: it may go on by itself.
absl::StatusOr<NativeProgress> migrate_by_libvirt(
    const std::shared_ptr<LibvirtConnection>& libvirt, const std::string& uuid,
    const NativeMove& move, const std::function<bool(const NativeProgress&)>& go_on);

}  // namespace godwit
