// MissingPages: which pages of an incoming guest must still come from the source (the set M).
//
// A file in the state directory, mapped by the agent, that survives it:
//
//   offset  size field
//        0     8 magic "GDWTMISS"
//        8     4 version
//       12     4 number of RAM blocks
//       16     8 XXH3-64 of all shapes
//       24     8 XXH3-64 of bytes 0–23
//       64    24 each shape: pages, backing, XXH3-64 of the block's name
//     4096     … FaultStats
//    16384     … 64 bytes for each chunk of each block: bit i of word i/64 = its page i is missing
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "engine/postcopy/atomic_page_set.h"
#include "engine/postcopy/fault_stats.h"

namespace godwit {

// The rule: a page's bit is set before the page is punched, and cleared after it is in place. So
// the bit may be set for a page that is there (then the fill finds it: EEXIST), but never clear for
// one whose content is still at the source.
//
// On hugetlbfs a chunk is stale as a whole: all its bits are set, all are cleared.
//
// Thread-safe; indices must lie in the blocks. Nothing is synced to disk: the host's death is the
// guest's. Movable only before other threads know it.
class MissingPages {
  public:
    // 168 shapes fit into the head; a VM has a handful of blocks (NUMA nodes, DIMMs).
    static constexpr size_t kMaxBlocks = 168;

    // Makes the file, fully allocated (a store into a hole of a full file system is a SIGBUS), with
    // no page missing; an existing one is replaced. Errors: open's, ResourceExhausted (no room for
    // it: the file is removed again), InvalidArgument (too many blocks).
    static absl::StatusOr<MissingPages> create(const std::string& path,
                                               std::span<const RamBlock> blocks);
    // Opens what an earlier agent left. Errors: NotFound; DataLoss when it is no such file, is
    // damaged, or of other RAM blocks than these.
    static absl::StatusOr<MissingPages> open(const std::string& path,
                                             std::span<const RamBlock> blocks);
    MissingPages(MissingPages&& other) noexcept;
    MissingPages& operator=(MissingPages&&) = delete;
    MissingPages(const MissingPages&) = delete;
    MissingPages& operator=(const MissingPages&) = delete;
    ~MissingPages() = default;

    [[nodiscard]] size_t block_count() const { return words_.size(); }
    [[nodiscard]] uint64_t chunk_count(BlockIndex block) const {
        return words_[block].size() / kWordsPerChunk;
    }
    [[nodiscard]] bool test(BlockIndex block, PageIndex page) const {
        return words_[block].test(page);
    }
    [[nodiscard]] ChunkMask chunk(BlockIndex block, ChunkIndex chunk) const {
        return words_[block].chunk(chunk);
    }
    [[nodiscard]] AtomicPageWords words(BlockIndex block) const { return words_[block]; }
    void set(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages);
    void clear(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages);
    // The same for some pages of one word; clear_word() returns those that were set.
    uint64_t clear_word(BlockIndex block, size_t word, uint64_t pages);

    // Missing pages in all blocks. Never less than there are: 0 means that all have come.
    [[nodiscard]] uint64_t count() const { return count_.load(); }
    // Calls visit for every chunk in which pages are missing, by block, ascending.
    void for_each_chunk(
        const std::function<void(BlockIndex, ChunkIndex, const ChunkMask&)>& visit) const;

    [[nodiscard]] FaultStats& stats() const;
    [[nodiscard]] FaultMeter meter() const { return FaultMeter(stats()); }

  private:
    MissingPages(Mapping mapping, std::span<const RamBlock> blocks);

    Mapping mapping_;
    std::vector<AtomicPageWords> words_;  // by block
    std::atomic<uint64_t> count_{0};
};

}  // namespace godwit
