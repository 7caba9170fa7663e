// KVM's memory slots as QEMU makes, changes and deletes them.
#pragma once

#include <cstdint>

#include "dirty-tracking/resident/state.h"

namespace godwit::resident {

// QEMU's KVM_SET_USER_MEMORY_REGION (or …_REGION2). RAM gets view A, and our log if that is on; if
// the kernel refuses our variant, QEMU's own is tried untouched, and that is what QEMU sees.
int set_memory_region(int vm, unsigned long request, void* argument);

// Under the lock. Null when there is none.
Slot* find_slot(uint32_t id);

// Under the lock: all slots, their views and the log.
void forget_slots();

}  // namespace godwit::resident
