// Guest-physical memory: what the loader says there is, and who gets which part of it.
//
//   0x8000            trampoline of the other CPUs
//   1 MiB             the kernel's image and stacks
//   2 MiB             the mailbox, one page
//   2 MiB + 4 KiB …   the arena: page tables, counters, rings, the DMA pool (upwards, below 4 GiB)
//   above the arena   the working set: place=low from here on and then above 4 GiB; place=high from
//                     the end of RAM downwards
#pragma once

#include <cstdint>

#include "bench/guest/mailbox_layout.h"

namespace godwit::guest {

inline constexpr uint64_t kTrampolineAddress = 0x8000;
inline constexpr uint64_t kFourGiB = uint64_t{4} << 30;

class MemoryMap {
  public:
    // Copies the multiboot memory map and maps all RAM at its own address. False: no memory map.
    bool load(uint64_t multiboot_info);
    // Makes [begin, end) accessible at its own address (device registers above 4 GiB, RAM), by 2
    // MiB pages: not every CPU model that QEMU offers has larger ones.
    bool map(uint64_t begin, uint64_t end);
    // Zeroed pages below 4 GiB, for ever; 0 when there is no room.
    uint64_t allocate(uint64_t bytes);
    // Chooses the pages of the working set; the arena cannot grow afterwards. False: not enough
    // RAM.
    bool place_working_set(uint64_t page_count, bool high, Mailbox& mailbox);

    // First address after low RAM, with what the firmware reserved at its end: where RAM above
    // 4 GiB begins in the RAM file.
    [[nodiscard]] uint64_t low_ram_end() const { return low_ram_end_; }
    [[nodiscard]] uint64_t ram_end() const { return ram_end_; }

  private:
    struct Range {
        uint64_t begin, end;
        bool usable;
    };
    static constexpr unsigned kMaxRanges = 32;

    void find_ends();
    // The RAM range that holds the arena, from the arena's end on.
    [[nodiscard]] unsigned usable_ranges(Range* out) const;

    Range ranges_[kMaxRanges] = {};
    unsigned range_count_ = 0;
    uint64_t low_ram_end_ = 0;
    uint64_t ram_end_ = 0;
    uint64_t arena_next_ = kMailboxAddress + kGuestPageBytes;
    uint64_t arena_limit_ = 0;
};

}  // namespace godwit::guest
