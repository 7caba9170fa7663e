// Runs of set bits, for the paths that must not allocate (a std::function may).
#pragma once

#include <bit>
#include <cstdint>

namespace godwit {

// Calls visit(first bit, bit count) for each maximal run of set bits of a word, ascending, until it
// returns false. False when it did.
template <typename Visit>
bool visit_runs(uint64_t bits, Visit&& visit) {
    while (bits != 0) {
        const auto first = static_cast<uint32_t>(std::countr_zero(bits));
        const auto count = static_cast<uint32_t>(std::countr_one(bits >> first));
        if (!visit(first, count)) return false;
        if (first + count >= 64) return true;
        bits &= ~uint64_t{0} << (first + count);
    }
    return true;
}

// The mask of `count` bits from `first` on; they lie in one word.
constexpr uint64_t bit_run(uint32_t first, uint64_t count) {
    return (count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1) << first;
}

}  // namespace godwit
