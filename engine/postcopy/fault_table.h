// FaultTable: the faults that wait for a page from the source. Fixed size, allocates nothing.
#pragma once

#include <array>
#include <cstdint>
#include <optional>

#include "engine/base/clock.h"
#include "engine/base/units.h"

namespace godwit {

struct OpenFault {
    BlockIndex block = 0;
    uint32_t view = 0;  // in which it was seen first
    PageIndex page = 0;
    MonotonicTime first_seen;
    bool asked = false;  // of the present connection
};

// At most one entry a page. Not thread-safe.
class FaultTable {
  public:
    // KVM has up to 64 asynchronous faults under way for each vCPU: this is a guest of 64 vCPUs
    // that waits for nothing but memory. Beyond it faults are kept waiting in the kernel.
    static constexpr size_t kLimit = 4096;

    [[nodiscard]] size_t size() const { return size_; }
    [[nodiscard]] bool full() const { return size_ == kLimit; }
    // The entry of the page, or nullptr. Valid until the next insert() or remove().
    OpenFault* find(BlockIndex block, PageIndex page);
    // The page must not be in it. nullptr when full.
    OpenFault* insert(const OpenFault& fault);
    std::optional<OpenFault> remove(BlockIndex block, PageIndex page);
    void forget_asked();
    // When the oldest entry was first seen.
    [[nodiscard]] std::optional<MonotonicTime> oldest() const;

  private:
    // Half full at most: probes stay short.
    static constexpr size_t kSlots = 2 * kLimit;
    struct Slot {
        bool used = false;
        OpenFault fault;
    };
    static size_t home(BlockIndex block, PageIndex page);

    std::array<Slot, kSlots> slots_{};
    size_t size_ = 0;
};

}  // namespace godwit
