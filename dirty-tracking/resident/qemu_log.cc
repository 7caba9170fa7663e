#include "dirty-tracking/resident/qemu_log.h"

#include <cerrno>

#include "dirty-tracking/resident/dirty_marks.h"
#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/slots.h"

namespace godwit::resident {
namespace {

bool wants_log(uint32_t flags) { return (flags & KVM_MEM_LOG_DIRTY_PAGES) != 0; }

// QEMU clears whole words from `first_page` on, of which the last may reach past the slot's end. It
// has armed these pages: ours is not to clear them again, it would owe QEMU what it has seen.
void settle(Slot& slot, const kvm_clear_dirty_log& cleared) {
    const auto* mask = static_cast<const uint64_t*>(cleared.dirty_bitmap);
    const uint64_t at = cleared.first_page / 64;
    const uint64_t word_count = (uint64_t{cleared.num_pages} + 63) / 64;
    if (slot.block >= 0)
        mark_words(g_state.log.blocks[slot.block], slot, cleared.first_page, mask, word_count);
    for (uint64_t i = 0; i < word_count; ++i) {
        if (slot.raw.exists()) slot.raw.words[at + i] &= ~mask[i];
        if (slot.owed.exists()) slot.owed.words[at + i] &= ~mask[i];
    }
}

}  // namespace

void prepare_qemu_log(Slot& slot, uint32_t flags) {
    if (slot.block < 0 || slot.logged_by_qemu() || !wants_log(flags)) return;
    if (!slot.owed.allocate(slot.page_count()))
        stop_log_because("no memory for its bitmaps", slot.id, ENOMEM);
}

// A log that is switched on begins full or empty. The kernel's was on before, so a full one is
// owed, and for an empty one it is emptied first.
void qemu_log_changed(Slot& slot, uint32_t flags) {
    const bool switched_on = wants_log(flags) && !slot.logged_by_qemu();
    if (switched_on && slot.block >= 0) {
        if (g_state.initially_set) {
            slot.owed.set_first(slot.page_count());
        } else {
            take_log(slot);
        }
    }
    slot.qemu_flags = flags;
    if (!wants_log(flags)) slot.owed.release();
    // A log that could not be emptied was ended, with the flags that QEMU had set before.
    if (wants_log(flags)) set_slot_flags(slot, slot.kernel_flags | KVM_MEM_LOG_DIRTY_PAGES);
}

int get_dirty_log(int vm, unsigned long request, kvm_dirty_log* argument) {
    const Guard guard(g_state.lock);
    const Slot* slot = vm == g_state.vm ? find_slot(argument->slot) : nullptr;
    if (slot != nullptr && slot->block >= 0 && !slot->logged_by_qemu()) {
        errno = ENOENT;  // what the kernel says of a slot that has no log
        return -1;
    }
    const int result = next_ioctl(vm, request, argument);
    if (result != 0 || slot == nullptr || !slot->owed.exists()) return result;
    auto* words = static_cast<uint64_t*>(argument->dirty_bitmap);
    for (uint64_t i = 0; i < slot->owed.word_count; ++i) words[i] |= slot->owed.words[i];
    return result;
}

int clear_dirty_log(int vm, unsigned long request, kvm_clear_dirty_log* argument) {
    const Guard guard(g_state.lock);
    Slot* slot = vm == g_state.vm ? find_slot(argument->slot) : nullptr;
    if (slot != nullptr && slot->block >= 0 && !slot->logged_by_qemu()) {
        errno = ENOENT;
        return -1;
    }
    const int result = next_ioctl(vm, request, argument);
    if (result == 0 && slot != nullptr) settle(*slot, *argument);
    return result;
}

}  // namespace godwit::resident
