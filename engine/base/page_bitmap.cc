#include "engine/base/page_bitmap.h"

#include <algorithm>
#include <bit>

#include "engine/base/check.h"

namespace godwit {
namespace {

// Calls change(word index, mask of the bits of that word inside the range).
template <typename Change>
void for_each_word(PageRange range, Change change) {
    for (PageIndex page = range.begin; page < range.end;) {
        const uint64_t bit = page % 64;
        const uint64_t bits = std::min<uint64_t>(64 - bit, range.end - page);
        const uint64_t mask = (bits == 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1) << bit;
        change(page / 64, mask);
        page += bits;
    }
}

inline uint64_t count_bits(std::span<const uint64_t> words) {
    uint64_t total = 0;
    for (const uint64_t word : words) total += static_cast<uint64_t>(std::popcount(word));
    return total;
}

// Baseline x86-64 counts a word's bits with a dozen instructions: 12.7 ms instead of 2.6 for the
// bitmap of 1 TiB, several times in a round and once in the pause.
[[gnu::target("popcnt")]] uint64_t count_fast(std::span<const uint64_t> words) {
    uint64_t total = 0;
    for (const uint64_t word : words) total += static_cast<uint64_t>(std::popcount(word));
    return total;
}

}  // namespace

PageBitmap::PageBitmap(uint64_t page_count)
    : page_count_(page_count), words_((page_count + 63) / 64) {}

void PageBitmap::set_range(PageRange range) {
    GODWIT_CHECK(range.end <= page_count_);
    for_each_word(range, [this](size_t word, uint64_t mask) { words_[word] |= mask; });
}

void PageBitmap::clear_range(PageRange range) {
    GODWIT_CHECK(range.end <= page_count_);
    for_each_word(range, [this](size_t word, uint64_t mask) { words_[word] &= ~mask; });
}

void PageBitmap::clear_all() { std::fill(words_.begin(), words_.end(), 0); }

uint64_t PageBitmap::count() const {
    static const bool has_popcnt = __builtin_cpu_supports("popcnt") != 0;
    return has_popcnt ? count_fast(words_) : count_bits(words_);
}

uint64_t PageBitmap::count_range(PageRange range) const {
    uint64_t total = 0;
    for_each_word(range, [&](size_t word, uint64_t mask) {
        total += static_cast<uint64_t>(std::popcount(words_[word] & mask));
    });
    return total;
}

bool PageBitmap::none() const {
    return std::all_of(words_.begin(), words_.end(), [](uint64_t word) { return word == 0; });
}

void PageBitmap::add(const PageBitmap& other) {
    GODWIT_CHECK(other.page_count_ == page_count_);
    for (size_t i = 0; i < words_.size(); ++i) words_[i] |= other.words_[i];
}

void PageBitmap::remove(const PageBitmap& other) {
    GODWIT_CHECK(other.page_count_ == page_count_);
    for (size_t i = 0; i < words_.size(); ++i) words_[i] &= ~other.words_[i];
}

PageIndex PageBitmap::next_set(PageIndex from) const {
    if (from >= page_count_) return page_count_;
    size_t word = from / 64;
    uint64_t bits = words_[word] & (~uint64_t{0} << (from % 64));
    while (bits == 0) {
        if (++word == words_.size()) return page_count_;
        bits = words_[word];
    }
    return word * 64 + static_cast<uint64_t>(std::countr_zero(bits));
}

PageIndex PageBitmap::next_clear(PageIndex from) const {
    if (from >= page_count_) return page_count_;
    size_t word = from / 64;
    uint64_t bits = ~words_[word] & (~uint64_t{0} << (from % 64));
    while (bits == 0) {
        if (++word == words_.size()) return page_count_;
        bits = ~words_[word];
    }
    return std::min<PageIndex>(word * 64 + static_cast<uint64_t>(std::countr_zero(bits)),
                               page_count_);
}

void PageBitmap::for_each_run(const std::function<void(PageRange)>& visit) const {
    for (PageIndex begin = next_set(0); begin < page_count_;) {
        const PageIndex end = next_clear(begin);
        visit({begin, end});
        begin = next_set(end);
    }
}

uint64_t count_pages(const PageSet& set) {
    uint64_t total = 0;
    for (const PageBitmap& bitmap : set) total += bitmap.count();
    return total;
}

void add_pages(PageSet& set, const PageSet& other) {
    GODWIT_CHECK(set.size() == other.size());
    for (size_t i = 0; i < set.size(); ++i) set[i].add(other[i]);
}

void clear_pages(PageSet& set) {
    for (PageBitmap& bitmap : set) bitmap.clear_all();
}

}  // namespace godwit
