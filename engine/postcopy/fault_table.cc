#include "engine/postcopy/fault_table.h"

#include <algorithm>

namespace godwit {

size_t FaultTable::home(BlockIndex block, PageIndex page) {
    // Fibonacci hashing: neighbours are spread.
    return static_cast<size_t>(((page + (uint64_t{block} << 40)) * 0x9e3779b97f4a7c15u) >> 32) %
           kSlots;
}

OpenFault* FaultTable::find(BlockIndex block, PageIndex page) {
    for (size_t at = home(block, page); slots_[at].used; at = (at + 1) % kSlots)
        if (slots_[at].fault.page == page && slots_[at].fault.block == block)
            return &slots_[at].fault;
    return nullptr;
}

OpenFault* FaultTable::insert(const OpenFault& fault) {
    if (full()) return nullptr;
    size_t at = home(fault.block, fault.page);
    while (slots_[at].used) at = (at + 1) % kSlots;
    slots_[at] = {.used = true, .fault = fault};
    ++size_;
    return &slots_[at].fault;
}

std::optional<OpenFault> FaultTable::remove(BlockIndex block, PageIndex page) {
    size_t hole = home(block, page);
    while (slots_[hole].used &&
           (slots_[hole].fault.page != page || slots_[hole].fault.block != block))
        hole = (hole + 1) % kSlots;
    if (!slots_[hole].used) return std::nullopt;
    const OpenFault removed = slots_[hole].fault;
    --size_;
    // Who was pushed on by the one that goes moves back, so that no probe ends too early.
    for (size_t at = (hole + 1) % kSlots; slots_[at].used; at = (at + 1) % kSlots) {
        const size_t wanted = home(slots_[at].fault.block, slots_[at].fault.page);
        if ((at + kSlots - wanted) % kSlots < (at + kSlots - hole) % kSlots) continue;
        slots_[hole] = slots_[at];
        hole = at;
    }
    slots_[hole].used = false;
    return removed;
}

void FaultTable::forget_asked() {
    for (Slot& slot : slots_) slot.fault.asked = false;
}

std::optional<MonotonicTime> FaultTable::oldest() const {
    std::optional<MonotonicTime> oldest;
    for (const Slot& slot : slots_) {
        if (!slot.used) continue;
        oldest = oldest ? std::min(*oldest, slot.fault.first_seen) : slot.fault.first_seen;
    }
    return oldest;
}

}  // namespace godwit
