// What a page of the guest's working set carries: who it is, how often it was written, and two sums
// over all its words (Fletcher's, in 64 bits), which can be updated word by word.
#pragma once

#include <cstdint>

namespace godwit {

inline constexpr unsigned kWordsPerPage = 512;
inline constexpr unsigned kHeaderWords = 4;
inline constexpr unsigned kBodyBytes = (kWordsPerPage - kHeaderWords) * 8;

// Words of the header. The sums leave themselves out.
inline constexpr unsigned kTagWord = 0;
inline constexpr unsigned kCountWord = 1;
inline constexpr unsigned kSumWord = 2;
inline constexpr unsigned kWeightedSumWord = 3;

struct PageSums {
    uint64_t sum = 0;
    uint64_t weighted = 0;

    // Accounts for word `word` having changed by `delta` (new - old, modulo 2^64).
    void add(unsigned word, uint64_t delta) {
        sum += delta;
        weighted += delta * (kWordsPerPage - word);
    }
    bool operator==(const PageSums&) const = default;
};

// Never 0, so a page of zeros belongs to nobody.
inline constexpr uint64_t page_tag(uint64_t index, uint64_t seed) {
    return (index + 1) * 0x9e3779b97f4a7c15 ^ (seed << 48) ^ 0x5a;
}

inline PageSums sum_page(const uint64_t* words) {
    PageSums sums;
    for (unsigned i = kHeaderWords; i < kWordsPerPage; ++i) {
        sums.sum += words[i];
        sums.weighted += sums.sum;  // so word i counts kWordsPerPage - i times
    }
    sums.add(kTagWord, words[kTagWord]);
    sums.add(kCountWord, words[kCountWord]);
    return sums;
}

}  // namespace godwit
