#include "dirty-tracking/resident/view.h"

#include <sys/mman.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>

#include "dirty-tracking/resident/address.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/open_file.h"
#include "dirty-tracking/resident/proc_maps.h"

namespace godwit::resident {
namespace {

constexpr uint64_t kHugeBytes = uint64_t{2} << 20;

struct Advice {
    uint64_t begin = 0;
    uint64_t end = 0;
    int advice = 0;
};
// The oldest is forgotten: it costs huge pages on a mount that waits for advice, nothing else.
constexpr uint32_t kAdviceLimit = 64;
Advice g_advice[kAdviceLimit];
uint32_t g_advice_next = 0;

bool is_of(const View& view, const MapsRegion& region) {
    return region.shared && region.device == view.device && region.inode == view.inode &&
           region.begin <= view.qemu_address &&
           view.qemu_address + view.length.load() <= region.end &&
           view.offset == region.offset + (view.qemu_address - region.begin);
}

bool has_slot(const View& view) {
    const uint64_t begin = view.kvm_address;
    for (uint32_t i = 0; i < g_state.slot_end; ++i) {
        const Slot& slot = g_state.slots[i];
        if (slot.used && slot.kind == SlotKind::kSplit && slot.kernel_address >= begin &&
            slot.kernel_address < begin + view.length.load())
            return true;
    }
    return false;
}

void unmap(View& view) {
    const uint64_t length = view.length.exchange(0);
    if (length != 0) ::munmap(pointer_to(view.kvm_address), length);
}

// Which of the views QEMU's own mapping still stands behind.
struct Standing {
    bool view[kViewLimit] = {};
};

// The mapping with `address`, and the standing of every view, without a look at all the others.
MapsQuery::Answer ask_kernel(uint64_t address, MapsRegion& found, Standing& standing) {
    const MapsQuery maps;
    for (uint32_t i = 0; i < kViewLimit; ++i) {
        const View& view = g_state.views[i];
        const uint64_t length = view.length.load();
        if (length == 0) continue;
        MapsRegion region;
        const auto answer = maps.find(view.qemu_address, view.qemu_address + length, region);
        if (answer == MapsQuery::Answer::kUnknown) return answer;
        standing.view[i] = answer == MapsQuery::Answer::kFound && is_of(view, region);
    }
    return maps.find(address, address, found);
}

// One pass over the mappings: the region with `address`, and the standing of every view.
bool look_at_maps(uint64_t address, MapsRegion& found, Standing& standing) {
    MapsReader reader;
    bool any = false;
    for (MapsRegion region; reader.next(region);) {
        if (region.begin <= address && address < region.end) {
            found = region;
            any = true;
        }
        for (uint32_t i = 0; i < kViewLimit; ++i)
            if (g_state.views[i].length.load() != 0 && is_of(g_state.views[i], region))
                standing.view[i] = true;
    }
    return any;
}

void drop_fallen_views(const Standing& standing) {
    for (uint32_t i = 0; i < kViewLimit; ++i)
        if (!standing.view[i] && !has_slot(g_state.views[i])) unmap(g_state.views[i]);
}

// Maps the file's bytes at an address that has the file offset's place within a huge page.
void* map_aligned(int fd, uint64_t length, uint64_t offset, uint64_t alignment) {
    const uint64_t reserved = length + alignment;
    void* space =
        ::mmap(nullptr, reserved, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (space == MAP_FAILED) return MAP_FAILED;
    const auto begin = reinterpret_cast<uint64_t>(space);
    const uint64_t shift = (offset - begin) & (alignment - 1);
    void* wanted = pointer_to(begin + shift);
    void* memory = ::mmap(wanted, length, PROT_READ | PROT_WRITE,
                          MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, static_cast<off_t>(offset));
    if (memory == MAP_FAILED) {
        ::munmap(space, reserved);
        return MAP_FAILED;
    }
    if (shift != 0) ::munmap(space, shift);
    ::munmap(pointer_to(begin + shift + length), alignment - shift);
    return memory;
}

void repeat(const View& view, const Advice& advice) {
    const uint64_t begin = std::max(advice.begin, view.qemu_address);
    const uint64_t end = std::min(advice.end, view.qemu_address + view.length.load());
    if (begin >= end) return;
    next_madvise(pointer_to(begin - view.qemu_address + view.kvm_address), end - begin,
                 advice.advice);
}

void advise(const View& view) {
    auto* memory = pointer_to(view.kvm_address);
    const uint64_t length = view.length.load();
    next_madvise(memory, length, MADV_DONTFORK);
    next_madvise(memory, length, MADV_DONTDUMP);
    for (const Advice& advice : g_advice) repeat(view, advice);
}

View* free_view() {
    for (View& view : g_state.views)
        if (view.length.load() == 0) return &view;
    return nullptr;
}

View* make_view(const MapsRegion& region) {
    View* view = free_view();
    const OpenFile file(region.device, region.inode);
    struct statfs system {};
    if (view == nullptr || file.fd() < 0 || ::fstatfs(file.fd(), &system) != 0) return nullptr;
    const uint64_t length = region.end - region.begin;
    const uint64_t alignment = std::max(kHugeBytes, static_cast<uint64_t>(system.f_bsize));
    void* memory = map_aligned(file.fd(), length, region.offset, alignment);
    if (memory == MAP_FAILED) return nullptr;
    view->device = region.device;
    view->inode = region.inode;
    view->offset = region.offset;
    view->kvm_address = reinterpret_cast<uint64_t>(memory);
    view->qemu_address = region.begin;
    view->length.store(length, std::memory_order_release);
    advise(*view);
    return view;
}

View* known_view(uint64_t address, uint64_t length, const Standing& standing) {
    for (uint32_t i = 0; i < kViewLimit; ++i) {
        View& view = g_state.views[i];
        const uint64_t view_length = view.length.load();
        if (view_length == 0 || !standing.view[i] || address < view.qemu_address) continue;
        if (address - view.qemu_address <= view_length &&
            length <= view_length - (address - view.qemu_address))
            return &view;
    }
    return nullptr;
}

}  // namespace

Placement place(uint64_t address, uint64_t length) {
    MapsRegion region;
    Standing standing;
    const auto answer = ask_kernel(address, region, standing);
    bool mapped = answer == MapsQuery::Answer::kFound;
    if (answer == MapsQuery::Answer::kUnknown) mapped = look_at_maps(address, region, standing);
    drop_fallen_views(standing);
    if (!mapped || !region.shared || !region.writable || region.inode == 0) return {};
    View* view = known_view(address, length, standing);
    if (view == nullptr) {
        if (!OpenFile(region.device, region.inode).is_memory()) return {};
        // A new view is of the region as a whole.
        if (!look_at_maps(address, region, standing)) return {};
        if (length <= region.end - address) view = make_view(region);
    }
    if (view == nullptr) return {.kind = SlotKind::kUnmappable};
    const uint64_t inside = address - view->qemu_address;
    return {.kind = SlotKind::kSplit,
            .view = view,
            .kernel_address = view->kvm_address + inside,
            .offset = view->offset + inside};
}

void repeat_advice(uint64_t address, uint64_t length, int advice) {
    g_advice[g_advice_next++ % kAdviceLimit] = {address, address + length, advice};
    for (View& view : g_state.views) repeat(view, g_advice[(g_advice_next - 1) % kAdviceLimit]);
}

void keep_pages_apart(bool apart) {
    for (const View& view : g_state.views) {
        const uint64_t length = view.length.load();
        if (length == 0) continue;
        // hugetlbfs answers EINVAL, and needs none of it.
        for (const uint64_t address : {view.kvm_address, view.qemu_address})
            next_madvise(pointer_to(address), length, apart ? MADV_NOHUGEPAGE : MADV_HUGEPAGE);
    }
    if (apart) return;
    // What QEMU itself has advised since its start holds again.
    for (uint32_t i = 0; i < kAdviceLimit; ++i) {
        const Advice& advice = g_advice[(g_advice_next + i) % kAdviceLimit];
        if (advice.end == 0) continue;
        for (const View& view : g_state.views) {
            repeat(view, advice);
            const uint64_t begin = std::max(advice.begin, view.qemu_address);
            const uint64_t end = std::min(advice.end, view.qemu_address + view.length.load());
            if (begin < end) next_madvise(pointer_to(begin), end - begin, advice.advice);
        }
    }
}

void unmap_all_views() {
    for (View& view : g_state.views) unmap(view);
}

}  // namespace godwit::resident
