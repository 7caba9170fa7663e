// PendingPages: which pages the source still has to send.
#pragma once

#include <atomic>
#include <span>

#include "engine/postcopy/atomic_page_set.h"

namespace godwit {

// Whoever takes a page sends it: no page is given to two threads. Thread-safe; allocates in the
// constructor only; indices must lie in the blocks.
class PendingPages {
  public:
    explicit PendingPages(std::span<const RamBlock> blocks) : pages_(blocks) {}

    void add(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages);
    // After a lost connection the destination says what it misses: this, and nothing else.
    void clear_all();
    // All pending pages of the chunk.
    ChunkMask take_chunk(BlockIndex block, ChunkIndex chunk);
    // The pending pages from `page` on without a gap, at most `max` of them and none of the next
    // chunk; empty when `page` is not pending.
    PageRange take_run(BlockIndex block, PageIndex page, uint64_t max);
    // The first `max` pending pages of [from, from + window), gaps or not, none of the next chunk.
    ChunkMask take_following(BlockIndex block, PageIndex from, uint64_t window, uint64_t max);

    // Never less than there are.
    [[nodiscard]] uint64_t count() const { return count_.load(); }
    [[nodiscard]] bool test(BlockIndex block, PageIndex page) const {
        return pages_[block].test(page);
    }

  private:
    // Takes the pages of a word that choose(pending) names; these.
    template <typename Choose>
    uint64_t take_word(BlockIndex block, size_t word, Choose&& choose);

    AtomicPageSet pages_;
    std::atomic<uint64_t> count_{0};
};

}  // namespace godwit
