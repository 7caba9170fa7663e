// PageBitmap: one bit per 4 KiB page of a RAM block. PageSet: one PageBitmap per block of a VM.
#pragma once

#include <cstdint>
#include <functional>
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

    [[nodiscard]] uint64_t page_count() const { return page_count_; }
    [[nodiscard]] bool test(PageIndex page) const { return words_[page / 64] >> (page % 64) & 1; }
    void set(PageIndex page) { words_[page / 64] |= uint64_t{1} << (page % 64); }
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
    [[nodiscard]] std::span<const uint64_t> words() const { return words_; }
    [[nodiscard]] std::span<uint64_t> words() { return words_; }

    bool operator==(const PageBitmap&) const = default;

  private:
    uint64_t page_count_ = 0;
    std::vector<uint64_t> words_;
};

// Indexed by BlockIndex.
using PageSet = std::vector<PageBitmap>;

uint64_t count_pages(const PageSet& set);
void add_pages(PageSet& set, const PageSet& other);
void clear_pages(PageSet& set);

}  // namespace godwit
