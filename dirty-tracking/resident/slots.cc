#include "dirty-tracking/resident/slots.h"

#include <cerrno>
#include <cstring>

#include "dirty-tracking/resident/dirty_marks.h"
#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/qemu_log.h"
#include "dirty-tracking/resident/view.h"

namespace godwit::resident {
namespace {

// By the kernel's documentation of KVM_SET_USER_MEMORY_REGION2; Debian 12's headers are older.
constexpr uint32_t kGuestMemfd = 4;
struct MemoryRegion2 {
    kvm_userspace_memory_region region;
    uint64_t rest[16];
};
static_assert(sizeof(MemoryRegion2) == 160);

// QEMU's call, and what of it we change.
struct Call {
    int vm;
    unsigned long request;
    void* original;
    bool second;  // …_REGION2
    kvm_userspace_memory_region region;

    [[nodiscard]] int untouched() const { return next_ioctl(vm, request, original); }
    [[nodiscard]] int with(uint64_t address, uint32_t flags) const {
        MemoryRegion2 copy{};
        std::memcpy(&copy, original, second ? sizeof copy : sizeof copy.region);
        copy.region.userspace_addr = address;
        copy.region.flags = flags;
        return next_ioctl(vm, request, &copy);
    }
};

Slot* free_slot() {
    for (uint32_t i = 0; i < kSlotLimit; ++i) {
        if (g_state.slots[i].used) continue;
        if (i >= g_state.slot_end) g_state.slot_end = i + 1;
        return &g_state.slots[i];
    }
    return nullptr;
}

void forget(Slot& slot) {
    slot.raw.release();
    slot.owed.release();
    slot = Slot{};
}

// Once the kernel has done it: a write up to then is in a log that is gone.
int remove(const Call& call, Slot& slot) {
    const int result = call.untouched();
    if (result != 0) return result;
    mark_slot(slot);
    forget(slot);
    return result;
}

uint32_t our_flag(const Slot& slot) { return slot.block >= 0 ? KVM_MEM_LOG_DIRTY_PAGES : 0u; }

// Other flags or another place for a slot whose memory stays.
int change(const Call& call, Slot& slot) {
    const uint32_t flags = call.region.flags;
    prepare_qemu_log(slot, flags);
    uint32_t kernel_flags = flags | our_flag(slot);
    int result = call.with(slot.kernel_address, kernel_flags);
    const bool refused = result != 0 && kernel_flags != flags;
    if (refused) {
        kernel_flags = flags;
        result = call.with(slot.kernel_address, flags);
    }
    if (result != 0) return result;
    const bool moved = call.region.guest_phys_addr != slot.guest_address;
    slot.guest_address = call.region.guest_phys_addr;
    slot.kernel_flags = kernel_flags;
    if (moved) mark_slot(slot);
    qemu_log_changed(slot, flags);
    if (refused) stop_log_because("the kernel refuses the log", slot.id, EINVAL);
    return result;
}

void fill(Slot& slot, const kvm_userspace_memory_region& region, const Placement& placement) {
    slot.used = true;
    slot.kind = placement.kind;
    slot.id = region.slot;
    slot.qemu_flags = region.flags;
    slot.guest_address = region.guest_phys_addr;
    slot.length = region.memory_size;
    slot.qemu_address = region.userspace_addr;
    slot.kernel_address = region.userspace_addr;
    slot.kernel_flags = region.flags;
    if (placement.kind != SlotKind::kSplit) return;
    slot.kernel_address = placement.kernel_address;
    slot.device = placement.view->device;
    slot.inode = placement.view->inode;
    slot.offset = placement.offset;
    slot.block = block_of(slot);
    slot.kernel_flags |= our_flag(slot);
}

void refuse(Slot& slot) {
    slot.kind = SlotKind::kRefused;
    slot.block = -1;
    slot.kernel_address = slot.qemu_address;
    slot.kernel_flags = slot.qemu_flags;
}

int create(const Call& call, const Placement& placement) {
    Slot* slot = free_slot();
    if (slot == nullptr) {
        note_problem(true, "QEMU uses more than %u memory slots", kSlotLimit);
        stop_log();
        return call.untouched();
    }
    fill(*slot, call.region, placement);
    int result = -1;
    if (slot->kind == SlotKind::kSplit)
        result = call.with(slot->kernel_address, slot->kernel_flags);
    if (result != 0) {
        if (slot->kind == SlotKind::kSplit) refuse(*slot);
        result = call.untouched();
    }
    if (result != 0) {
        forget(*slot);
        return result;
    }
    if (slot->block >= 0 && adopt_slot(*slot)) mark_slot(*slot);
    return result;
}

int dispatch(const Call& call) {
    Slot* slot = find_slot(call.region.slot);
    if (call.region.memory_size == 0)
        return slot != nullptr ? remove(call, *slot) : call.untouched();
    if (slot != nullptr) {
        if (call.region.memory_size == slot->length &&
            call.region.userspace_addr == slot->qemu_address)
            return change(call, *slot);
        // The kernel refuses it; if it ever does not, what we knew of the slot is wrong.
        const int result = call.untouched();
        if (result != 0) return result;
        mark_slot(*slot);
        forget(*slot);
        return result;
    }
    if (call.second && (call.region.flags & kGuestMemfd) != 0) {
        note_problem(true, "slot %u is backed by guest_memfd", call.region.slot & 0xffff);
        return create(call, Placement{});
    }
    return create(call, place(call.region.userspace_addr, call.region.memory_size));
}

}  // namespace

Slot* find_slot(uint32_t id) {
    for (uint32_t i = 0; i < g_state.slot_end; ++i)
        if (g_state.slots[i].used && g_state.slots[i].id == id) return &g_state.slots[i];
    return nullptr;
}

int set_memory_region(int vm, unsigned long request, void* argument) {
    const Guard guard(g_state.lock);
    if (vm != g_state.vm) return next_ioctl(vm, request, argument);
    Call call{vm, request, argument, _IOC_SIZE(request) == sizeof(MemoryRegion2), {}};
    std::memcpy(&call.region, argument, sizeof call.region);
    return dispatch(call);
}

void forget_slots() {
    stop_log();
    for (uint32_t i = 0; i < g_state.slot_end; ++i) forget(g_state.slots[i]);
    g_state.slot_end = 0;
    unmap_all_views();
}

}  // namespace godwit::resident
