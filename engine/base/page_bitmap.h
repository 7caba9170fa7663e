// PageBitmap: one bit per 4 KiB page of a RAM block. PageSet: one PageBitmap per block of a VM.
//
// The bitmap of 1 TiB has 32 MiB, and a guest of that size may have touched little of it. A summary
// tells which parts of it (4 KiB, for 128 MiB of guest) may have a bit set: nothing else is looked
// at, cleared, copied, or given memory.
#pragma once

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "engine/base/units.h"

namespace godwit {

struct PageRange {
    PageIndex begin = 0;
    PageIndex end = 0;  // one past the last page
    [[nodiscard]] uint64_t count() const { return end - begin; }
    bool operator==(const PageRange&) const = default;
};

// Not thread-safe. Every index must be below page_count(); a range may be empty.
class PageBitmap {
  public:
    PageBitmap() = default;
    explicit PageBitmap(uint64_t page_count);
    PageBitmap(const PageBitmap& other);
    PageBitmap& operator=(const PageBitmap& other);
    // What was moved from has no pages, and nothing but its end or another value comes for it.
    PageBitmap(PageBitmap&& other) noexcept;
    PageBitmap& operator=(PageBitmap&& other) noexcept;
    ~PageBitmap() = default;

    [[nodiscard]] uint64_t page_count() const { return page_count_; }
    [[nodiscard]] bool test(PageIndex page) const { return words_[page / 64] >> (page % 64) & 1; }
    void set(PageIndex page) { add_word(page / 64, uint64_t{1} << (page % 64)); }
    void clear(PageIndex page) { words_[page / 64] &= ~(uint64_t{1} << (page % 64)); }
    void set_range(PageRange range);
    void clear_range(PageRange range);
    void clear_all();

    [[nodiscard]] uint64_t count() const;
    [[nodiscard]] uint64_t count_range(PageRange range) const;
    [[nodiscard]] bool none() const;
    // Adds / removes every page of `other`, which has the same page_count().
    void add(const PageBitmap& other);
    void remove(const PageBitmap& other);

    // The first page >= `from` that is set (clear), or page_count().
    [[nodiscard]] PageIndex next_set(PageIndex from) const;
    [[nodiscard]] PageIndex next_clear(PageIndex from) const;
    // Calls `visit` for every maximal run of set pages, ascending.
    void for_each_run(const std::function<void(PageRange)>& visit) const;

    // 64 pages per word, page 0 in bit 0 of word 0; bits past page_count() are zero.
    [[nodiscard]] std::span<const uint64_t> words() const {
        return {words_.get(), word_count(page_count_)};
    }
    // Sets these pages of a word, none of them past page_count(). Several threads may do so, each
    // to words of its own.
    void add_word(size_t index, uint64_t bits) {
        words_[index] |= bits;
        const size_t part = index / kPartWords;
        const uint64_t bit = uint64_t{1} << (part % 64);
        const std::atomic_ref<uint64_t> summary(summary_[part / 64]);
        if ((summary.load(std::memory_order_relaxed) & bit) == 0)
            summary.fetch_or(bit, std::memory_order_relaxed);
    }

    bool operator==(const PageBitmap& other) const;

  private:
    static constexpr size_t kPartWords = 512;
    struct Release {
        Release() : bytes(0) {}
        explicit Release(size_t size) : bytes(size) {}
        size_t bytes;
        void operator()(uint64_t* words) const;
    };
    static constexpr size_t word_count(uint64_t page_count) { return (page_count + 63) / 64; }
    [[nodiscard]] bool may_have(size_t part) const {
        return (summary_[part / 64] >> (part % 64) & 1) != 0;
    }
    // Calls visit(part, its words) for each part of `summary`, ascending.
    template <typename Visit>
    void for_each_part(std::span<const uint64_t> summary, Visit visit) const;

    uint64_t page_count_ = 0;
    std::unique_ptr<uint64_t[], Release> words_;  // zeroed by the kernel, where they are many
    std::vector<uint64_t> summary_;               // bit i: part i may have a page
};

// Indexed by BlockIndex.
using PageSet = std::vector<PageBitmap>;

uint64_t count_pages(const PageSet& set);
void add_pages(PageSet& set, const PageSet& other);
void clear_pages(PageSet& set);

}  // namespace godwit
