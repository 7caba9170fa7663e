#include "dirty-tracking/resident/kvm_log.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>

#include "dirty-tracking/resident/dirty_marks.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/view.h"

namespace godwit::resident {
namespace {

// 64 MiB: the kernel holds its MMU lock for that long, with every vCPU's faults behind it.
constexpr uint64_t kClearWords = 256;
constexpr uint64_t kClearPages = kClearWords * 64;

// `mask` holds the bits from page `first` of the slot on, a multiple of 64.
int clear_in_kernel(const Slot& slot, uint64_t first, const uint64_t* mask, uint64_t word_count) {
    kvm_clear_dirty_log argument{};
    argument.slot = slot.id;
    argument.first_page = first;
    argument.num_pages =
        static_cast<uint32_t>(std::min(word_count * 64, slot.page_count() - first));
    argument.dirty_bitmap = const_cast<uint64_t*>(mask);
    return next_ioctl(g_state.vm, KVM_CLEAR_DIRTY_LOG, &argument) == 0 ? 0 : errno;
}

int read_log(Slot& slot) {
    kvm_dirty_log argument{};
    argument.slot = slot.id;
    argument.dirty_bitmap = slot.raw.words;
    return next_ioctl(g_state.vm, KVM_GET_DIRTY_LOG, &argument) == 0 ? 0 : errno;
}

// The raw bits of [begin, end) within one window, which starts at a multiple of 64.
struct Window {
    uint64_t first = 0;
    uint64_t word_count = 0;
    uint64_t mask[kClearWords];
};

// Leaves empty words at both ends out. False when there is nothing to clear.
bool fill_window(Window& window, const Slot& slot, uint64_t begin, uint64_t end) {
    window.word_count = 0;
    for (uint64_t i = begin / 64; i * 64 < end; ++i) {
        const uint64_t bits = slot.raw.words[i] & mask_of(i, begin, end);
        if (bits == 0 && window.word_count == 0) continue;
        if (window.word_count == 0) window.first = i * 64;
        window.mask[window.word_count++] = bits;
    }
    while (window.word_count != 0 && window.mask[window.word_count - 1] == 0) --window.word_count;
    return window.word_count != 0;
}

// What QEMU has not seen yet is owed to it before it can be lost.
int clear_window(Slot& slot, const Window& window) {
    const uint64_t at = window.first / 64;
    if (slot.owed.exists() && slot.logged_by_qemu())
        for (uint64_t i = 0; i < window.word_count; ++i) slot.owed.words[at + i] |= window.mask[i];
    const int error = clear_in_kernel(slot, window.first, window.mask, window.word_count);
    for (uint64_t i = 0; error == 0 && i < window.word_count; ++i)
        slot.raw.words[at + i] &= ~window.mask[i];
    return error;
}

// [begin, end) in pages of the slot.
struct Part {
    uint64_t begin = 0;
    uint64_t end = 0;
};

// The slot's part of [begin, end) in pages of the file.
Part part_of(const Slot& slot, uint64_t begin, uint64_t end) {
    const uint64_t first = slot.first_file_page();
    const uint64_t last = std::min(end, first + slot.page_count());
    begin = std::max(begin, first);
    return begin < last ? Part{begin - first, last - first} : Part{};
}

// The end of the window that begins with page `begin` of the slot.
uint64_t window_end(uint64_t begin, uint64_t end) {
    return std::min(end, begin / 64 * 64 + kClearPages);
}

// One window at a time; between two, QEMU may have changed the slot.
bool clear_slot(Slot& slot, int block, uint64_t begin_page, uint64_t end_page) {
    for (uint64_t at = begin_page; at < end_page;) {
        if (!slot.used || slot.block != block || !slot.raw.exists()) return true;
        const Part part = part_of(slot, at, end_page);
        if (part.begin == part.end) return true;
        const uint64_t end = window_end(part.begin, part.end);
        at = slot.first_file_page() + end;
        Window window;
        if (!fill_window(window, slot, part.begin, end)) continue;
        if (const int error = clear_window(slot, window); error != 0) {
            stop_log_because("KVM_CLEAR_DIRTY_LOG", slot.id, error);
            return false;
        }
        g_state.lock.yield();
        if (!g_state.log.on) return false;
    }
    return true;
}

bool arm_slot(Slot& slot) {
    slot.block = block_of(slot);
    if (slot.block < 0) return true;
    if (!adopt_slot(slot)) return false;
    const uint32_t flags = slot.qemu_flags | KVM_MEM_LOG_DIRTY_PAGES;
    int error = set_slot_flags(slot, flags);
    if (error == 0) error = read_log(slot);
    if (error != 0) {
        stop_log_because("the log can't be switched on", slot.id, error);
        return false;
    }
    const uint64_t first = slot.first_file_page();
    return clear_slot(slot, slot.block, first, first + slot.page_count());
}

}  // namespace

int block_of(const Slot& slot) {
    const Log& log = g_state.log;
    if (!log.on || log.discards_only || slot.kind != SlotKind::kSplit) return -1;
    for (uint32_t i = 0; i < log.block_count; ++i)
        if (log.blocks[i].device == slot.device && log.blocks[i].inode == slot.inode)
            return static_cast<int>(i);
    return -1;
}

int set_slot_flags(Slot& slot, uint32_t flags) {
    if (slot.kernel_flags == flags) return 0;
    kvm_userspace_memory_region region{};
    region.slot = slot.id;
    region.flags = flags;
    region.guest_phys_addr = slot.guest_address;
    region.memory_size = slot.length;
    region.userspace_addr = slot.kernel_address;
    if (next_ioctl(g_state.vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) return errno;
    slot.kernel_flags = flags;
    return 0;
}

bool adopt_slot(Slot& slot) {
    bool fine = slot.raw.allocate(slot.page_count());
    if (fine && slot.logged_by_qemu() && !slot.owed.exists())
        fine = slot.owed.allocate(slot.page_count());
    if (!fine) stop_log_because("no memory for its bitmaps", slot.id, ENOMEM);
    return fine;
}

void take_log(Slot& slot) {
    int error = read_log(slot);
    if (error == 0)
        mark_words(g_state.log.blocks[slot.block], slot, 0, slot.raw.words, slot.raw.word_count);
    Window window;
    for (uint64_t at = 0; at < slot.page_count() && error == 0;) {
        const uint64_t end = window_end(at, slot.page_count());
        if (fill_window(window, slot, at, end)) error = clear_window(slot, window);
        at = end;
    }
    if (error != 0) stop_log_because("its log can't be taken", slot.id, error);
}

bool arm_log() {
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        if (g_state.slots[i].used && !arm_slot(g_state.slots[i])) return false;
        g_state.lock.yield();
        if (!g_state.log.on) return false;
    }
    return true;
}

bool collect_log() {
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        Slot& slot = g_state.slots[i];
        if (!slot.used || slot.block < 0) continue;
        if (const int error = read_log(slot); error != 0) {
            stop_log_because("KVM_GET_DIRTY_LOG", slot.id, error);
            return false;
        }
        mark_words(g_state.log.blocks[slot.block], slot, 0, slot.raw.words, slot.raw.word_count);
        g_state.lock.yield();
        if (!g_state.log.on) return false;
    }
    return true;
}

bool clear_log(uint32_t block, uint64_t begin_page, uint64_t end_page) {
    for (uint32_t i = 0; i < g_state.slot_end; ++i)
        if (!clear_slot(g_state.slots[i], static_cast<int>(block), begin_page, end_page))
            return false;
    return true;
}

void stop_log() {
    g_state.watching.store(false);
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        Slot& slot = g_state.slots[i];
        slot.block = -1;
        slot.raw.release();
        if (!slot.used) continue;
        // If the kernel refuses, the log costs some speed and tells nobody anything.
        set_slot_flags(slot, slot.qemu_flags);
    }
    Log& log = g_state.log;
    if (log.on && !log.discards_only) keep_pages_apart(false);
    if (log.memory != nullptr) ::munmap(log.memory, log.bytes);
    log.memory = nullptr;
    log.on = false;
    log.block_count = log.mapping_count = 0;
}

void stop_log_because(const char* what, uint32_t slot_id, int error_number) {
    note_problem(false, "slot %u of address space %u: %s (errno %d)", slot_id & 0xffff,
                 slot_id >> 16, what, error_number);
    stop_log();
}

}  // namespace godwit::resident
