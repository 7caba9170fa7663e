// AtomicPageSet: a bit per 4 KiB page of each RAM block, changed by several threads at once.
#pragma once

#include <atomic>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/page_bitmap.h"
#include "engine/base/ram_block.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// The words of one block: 64 pages each, page 0 in bit 0 of word 0. A view: the memory is somebody
// else's. Every access is atomic; all operations are sequentially consistent, because who sets one
// set and then looks at another relies on it. Indices must lie in the block.
class AtomicPageWords {
  public:
    AtomicPageWords() = default;
    explicit AtomicPageWords(std::span<uint64_t> words) : words_(words) {}

    [[nodiscard]] size_t size() const { return words_.size(); }
    [[nodiscard]] uint64_t load(size_t word) const { return at(word).load(); }
    [[nodiscard]] bool test(PageIndex page) const { return load(page / 64) >> (page % 64) & 1; }
    // Both return the word as it was before.
    uint64_t set(size_t word, uint64_t mask) const { return at(word).fetch_or(mask); }
    uint64_t clear(size_t word, uint64_t mask) const { return at(word).fetch_and(~mask); }
    bool replace(size_t word, uint64_t& expected, uint64_t wanted) const {
        return at(word).compare_exchange_weak(expected, wanted);
    }
    // A word at a time: not one moment of all eight.
    [[nodiscard]] ChunkMask chunk(ChunkIndex chunk) const;

  private:
    [[nodiscard]] std::atomic_ref<uint64_t> at(size_t word) const {
        return std::atomic_ref<uint64_t>(words_[word]);
    }
    std::span<uint64_t> words_;
};

// Owns its words; all clear at first. Allocates in the constructor only.
class AtomicPageSet {
  public:
    explicit AtomicPageSet(std::span<const RamBlock> blocks);
    explicit AtomicPageSet(std::span<const uint64_t> page_counts);

    [[nodiscard]] size_t block_count() const { return blocks_.size(); }
    [[nodiscard]] AtomicPageWords operator[](BlockIndex block) const { return views_[block]; }

  private:
    void add_block(uint64_t page_count);
    std::vector<std::vector<uint64_t>> blocks_;
    std::vector<AtomicPageWords> views_;
};

}  // namespace godwit
