// QEMU's own dirty logging of RAM that we log too (its migrate command and calc-dirty-rate switch
// it on for every slot): each must see all that it would see alone. There is one log in the kernel,
// and who clears a bit takes it from the other. So what QEMU clears is marked for the agent, and
// what we clear is owed to QEMU until it has cleared it itself.
#pragma once

#include <cstdint>

#include "dirty-tracking/resident/state.h"

namespace godwit::resident {

// Before and after QEMU gives a slot other flags, under the lock. The first makes ready what is
// needed when QEMU switches its log on; it may stop ours.
void prepare_qemu_log(Slot& slot, uint32_t flags);
void qemu_log_changed(Slot& slot, uint32_t flags);

// QEMU's KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG.
int get_dirty_log(int vm, unsigned long request, kvm_dirty_log* argument);
int clear_dirty_log(int vm, unsigned long request, kvm_clear_dirty_log* argument);

}  // namespace godwit::resident
