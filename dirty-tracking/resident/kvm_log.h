// KVM's dirty log, run for the agent. KVM_GET_DIRTY_LOG takes nothing away with MANUAL_PROTECT2:
// a page's bit stays until KVM_CLEAR_DIRTY_LOG, which also arms the page again. So a bit that was
// never cleared comes again with the next collect, and whatever is forgotten here only costs a page
// sent twice (Documentation/virt/kvm/api.rst, 4.8 and 4.117).
//
// The functions that say "lets the lock go" do so between ioctls; the others are called under it.
#pragma once

#include <cstdint>

#include "dirty-tracking/resident/state.h"

namespace godwit::resident {

// Switches the log on for every slot of the blocks and clears it. Not for discards alone. False:
// state.problem says why, and nothing is logged. Lets the lock go.
bool arm_log();

// Adds what the slots' logs hold to the blocks' bitmaps. False: as above. Lets the lock go.
bool collect_log();

// Clears what the last collect took of these pages of the block. False: as above. Lets the lock
// go.
bool clear_log(uint32_t block, uint64_t begin_page, uint64_t end_page);

// Every slot is back to what QEMU asked for; what is owed to QEMU stays owed. The agent's memory
// is let go.
void stop_log();

// The same, after a failure of ours: the reason is kept for the agent.
void stop_log_because(const char* what, uint32_t slot_id, int error_number);

// For a slot that QEMU has just made, or whose log has to be ours too: what the log needs
// beside it. False: the log was stopped.
bool adopt_slot(Slot& slot);

// The block of the log that the slot's file is, or -1.
int block_of(const Slot& slot);

// Gives the slot other flags in the kernel. 0, or errno.
int set_slot_flags(Slot& slot, uint32_t flags);

// Empties the slot's log in the kernel into the block's bitmap.
void take_log(Slot& slot);

}  // namespace godwit::resident
