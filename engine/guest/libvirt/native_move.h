// libvirt's own migration of a domain.
#pragma once

#include <functional>

#include "engine/guest/hypervisor.h"
#include "engine/guest/libvirt/connection.h"

namespace godwit {

// From one libvirtd to the other (peer to peer), with auto-converge, so that it ends. As
// Vm::move_natively(). `moving` and `watched` are the same domain by two connections: the one is
// busy with the migration while the other is asked how far it is.
absl::StatusOr<NativeProgress> migrate_by_libvirt(
    virDomain* moving, virDomain* watched, const NativeMove& move,
    const std::function<bool(const NativeProgress&)>& go_on);

}  // namespace godwit
