// What a page of a test's guest holds: known to the source, the guest and the checks.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/units.h"

namespace godwit {

inline constexpr size_t kPageWords = kPageBytes / sizeof(uint64_t);

// The word `index` of a page; every seventh page is all zero.
inline uint64_t content_word(uint64_t seed, PageIndex page, size_t index) {
    if ((page + seed) % 7 == 0) return 0;
    return (seed * 1'000'003 + page * 4099 + index) * 0x9e3779b97f4a7c15u | 1;
}

inline void fill_content(uint64_t seed, PageIndex page, std::span<std::byte, kPageBytes> bytes) {
    auto* words = reinterpret_cast<uint64_t*>(bytes.data());
    for (size_t i = 0; i < kPageWords; ++i) words[i] = content_word(seed, page, i);
}

}  // namespace godwit
