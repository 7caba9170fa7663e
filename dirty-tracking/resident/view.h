// The split view: guest RAM is mapped a second time (view A, for KVM alone), so that what vCPUs
// write and what QEMU writes (view B) are told apart. All under the state's lock.
#pragma once

#include <cstddef>
#include <cstdint>

#include "dirty-tracking/resident/state.h"

namespace godwit::resident {

// Where the bytes at an address of QEMU's come from.
struct Placement {
    SlotKind kind = SlotKind::kNotRam;
    const View* view = nullptr;  // for kSplit
    uint64_t kernel_address = 0;
    uint64_t offset = 0;
};

// Finds (or makes) the view for [address, address + length). RAM is a shared writable mapping of a
// file on tmpfs or hugetlbfs that this process has open for reading and writing. Views whose
// mapping by QEMU has gone are unmapped on the way.
Placement place(uint64_t address, uint64_t length);

// Advice on how memory is backed, given by QEMU for an address of its own: repeated for view A, and
// remembered for views that come later.
void repeat_advice(uint64_t address, uint64_t length, int advice);

// While writes are told apart by the traces that they leave in view B's page tables, the kernel
// must not put small pages together (khugepaged): that wipes the traces out. Both views are advised
// against huge pages, which leaves those that are mapped as they are, and back when it is over.
void keep_pages_apart(bool apart);

void unmap_all_views();

}  // namespace godwit::resident
