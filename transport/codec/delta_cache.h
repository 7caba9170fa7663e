// DeltaCache: pages as the destination holds them, so that a page that is written over and over can
// travel as the XOR of old and new (Svärd et al., VEE'11: XBZRLE's idea; here the XOR is packed by
// lz4 like any other payload).
//
// Every entry knows the hash of its content, and is used only where that is the hash of what was
// sent last. So an entry that was overtaken (its page was sent without the cache's knowing, became
// zero, was punched) is never taken for what the destination holds; forget() only makes room.
//
// Free room is anybody's. When there is none, a page that is sent again takes the place of the one
// whose last resending is longest ago, but of none that was resent in this round or the one before:
// pages come in the same order in every round, so plain LRU would throw each out just before its
// turn. A page that is sent for the first time takes nobody's place.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/hash.h"
#include "engine/base/mapping.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"
#include "engine/base/units.h"
#include "transport/codec/xor_page.h"

namespace godwit {

// One per stream, one thread. Allocates only when it is made; memory is touched when it is used.
class DeltaCache {
  public:
    // A page of which more 64-byte lines than this changed packs no better as a delta.
    static constexpr uint32_t kMostChangedLines = kPageBytes / 64 / 2;

    // Room for `capacity` bytes of pages, and about 60 bytes for each page. Errors: InvalidArgument
    // (less than a page, or more than 2^31 of them), mmap's.
    static absl::StatusOr<DeltaCache> create(Bytes capacity);

    // Between rounds.
    void begin_round() { ++round_; }

    // A page's hash when it was sent last ({0, 0}: as zeros, or never) and now.
    struct Hashes {
        Hash128 sent;
        Hash128 now;
    };
    // This page is about to be sent, with a payload. Where the cache holds what was sent last, and
    // less than half of it changed, replaces `content` in its place by the XOR of the two and
    // returns true; else leaves it alone and returns false. The cache then has the new content
    // where it had the old one or has room for it.
    [[nodiscard]] bool exchange(BlockIndex block, PageIndex page, const Hashes& hashes,
                                PageBytes content);

    // A page's content if that is what was `sent` last, else null; valid until the next exchange().
    [[nodiscard]] const std::byte* find(BlockIndex block, PageIndex page, Hash128 sent) const;

    // These pages are not coming back: drops them.
    void forget(BlockIndex block, PageRange pages);

    [[nodiscard]] uint32_t page_count() const { return used_; }
    [[nodiscard]] uint32_t capacity_pages() const { return capacity_; }

    struct Counts {
        uint64_t deltas = 0;
        uint64_t rewritten = 0;  // found, but changed too much
        uint64_t stale = 0;      // found, but not with what was sent last
        uint64_t evicted = 0;
        uint64_t refused = 0;  // resent, and there was no room
    };
    [[nodiscard]] const Counts& counts() const { return counts_; }

  private:
    // Slots are numbered from 1; 0 is none. Entry 0 is the ring's head: its next is the slot whose
    // last resending is longest ago. Free slots: those above made_, and free_ through `next`.
    struct Entry {
        Hash128 hash;
        PageIndex page;
        BlockIndex block;
        uint32_t resent_in_round;  // 0: never
        uint32_t previous;
        uint32_t next;
    };

    DeltaCache() = default;
    [[nodiscard]] Entry& entry(uint32_t slot) const;
    [[nodiscard]] PageBytes content(uint32_t slot) const;
    [[nodiscard]] uint32_t& bucket(uint64_t index) const;
    [[nodiscard]] uint64_t home(BlockIndex block, PageIndex page) const;
    // Where the page's slot is, or the empty bucket where it would be.
    [[nodiscard]] uint64_t locate(BlockIndex block, PageIndex page) const;
    void remember(BlockIndex block, PageIndex page, const Hashes& hashes, ConstPageBytes content);
    [[nodiscard]] uint32_t take_slot(bool resent);
    void drop(uint32_t slot);
    void empty(uint64_t index);
    void unlink(uint32_t slot);
    void link(uint32_t slot, bool resent);

    Mapping contents_;
    Mapping entries_;
    Mapping buckets_;  // slots by hash of block and page: linear probing, at most half full
    uint32_t capacity_ = 0;
    uint32_t used_ = 0;
    uint32_t made_ = 0;
    uint32_t free_ = 0;
    uint32_t round_ = 1;
    uint64_t bucket_mask_ = 0;
    Counts counts_;
};

}  // namespace godwit
