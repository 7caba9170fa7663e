// Prepager: how many pages behind a faulting one the guest will probably want next.
#pragma once

#include <array>
#include <cstdint>

#include "engine/base/units.h"

namespace godwit {

// Follows a few walks through memory at once, as many threads of the guest make them. A fault just
// behind what a walk was given so far doubles its pages up to the limit; a fault that continues no
// walk begins one with what such faults have been worth lately, which halves with every one of
// them. Pure, allocates nothing. Not thread-safe.
class Prepager {
  public:
    // 256 KiB: at 10 Gbit/s a demand page that comes right behind waits 0.2 ms.
    static constexpr uint32_t kLimit = 64;
    // Pages that are not pending lie between those that are: n pages are looked for among the
    // kSpread * n behind the fault.
    static constexpr uint32_t kSpread = 4;
    // A fault that skips up to so many pages behind these still continues the walk.
    static constexpr uint32_t kSlack = 4;
    // What a new walk is given at most.
    static constexpr uint32_t kFirstPages = 8;

    explicit Prepager(uint32_t limit = kLimit) : limit_(limit) {}
    // The number of pages to send along behind `page`, which somebody waits for.
    uint32_t next(BlockIndex block, PageIndex page);

  private:
    struct Walk {
        bool used = false;
        BlockIndex block = 0;
        PageIndex last = 0;  // page that faulted
        uint32_t pages = 0;  // given with it
        uint64_t touched = 0;
    };
    // Of a guest that walks with more threads than this, the longest idle walk is forgotten.
    static constexpr size_t kWalks = 16;

    uint32_t limit_;
    uint32_t first_pages_ = kFirstPages;
    uint64_t clock_ = 0;
    std::array<Walk, kWalks> walks_{};
};

}  // namespace godwit
