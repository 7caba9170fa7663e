#include "transport/codec/xor_page.h"

#include <immintrin.h>

namespace godwit {
namespace {

constexpr size_t kLineBytes = 64;

// A line as the compiler's own SIMD, which is what the function's target has.
using Line [[gnu::vector_size(kLineBytes), gnu::aligned(1), gnu::may_alias]] = uint64_t;

const Line& line(const std::byte* page) { return *reinterpret_cast<const Line*>(page); }
Line& line(std::byte* page) { return *reinterpret_cast<Line*>(page); }

uint32_t exchange_portable(std::byte* page, std::byte* kept) {
    uint32_t changed = 0;
    for (size_t i = 0; i < kPageBytes; i += kLineBytes) {
        const Line now = line(page + i);
        const Line difference = now ^ line(kept + i);
        line(page + i) = difference;
        line(kept + i) = now;
        const uint64_t any = (difference[0] | difference[1]) | (difference[2] | difference[3]) |
                             (difference[4] | difference[5]) | (difference[6] | difference[7]);
        changed += any != 0 ? 1 : 0;
    }
    return changed;
}

[[gnu::target("avx2")]] uint32_t exchange_avx2(std::byte* page, std::byte* kept) {
    uint32_t changed = 0;
    for (size_t i = 0; i < kPageBytes; i += kLineBytes) {
        auto* new_low = reinterpret_cast<__m256i_u*>(page + i);
        auto* new_high = reinterpret_cast<__m256i_u*>(page + i + 32);
        auto* old_low = reinterpret_cast<__m256i_u*>(kept + i);
        auto* old_high = reinterpret_cast<__m256i_u*>(kept + i + 32);
        const __m256i low = _mm256_loadu_si256(new_low);
        const __m256i high = _mm256_loadu_si256(new_high);
        const __m256i low_difference = _mm256_xor_si256(low, _mm256_loadu_si256(old_low));
        const __m256i high_difference = _mm256_xor_si256(high, _mm256_loadu_si256(old_high));
        const __m256i any = _mm256_or_si256(low_difference, high_difference);
        _mm256_storeu_si256(new_low, low_difference);
        _mm256_storeu_si256(new_high, high_difference);
        _mm256_storeu_si256(old_low, low);
        _mm256_storeu_si256(old_high, high);
        changed += 1 - static_cast<uint32_t>(_mm256_testz_si256(any, any));
    }
    return changed;
}

}  // namespace

uint32_t exchange_for_xor(PageBytes page, PageBytes kept) {
    return __builtin_cpu_supports("avx2") ? exchange_avx2(page.data(), kept.data())
                                          : exchange_portable(page.data(), kept.data());
}

void xor_page(PageBytes page, ConstPageBytes delta) {
    for (size_t i = 0; i < kPageBytes; i += kLineBytes)
        line(page.data() + i) ^= line(delta.data() + i);
}

}  // namespace godwit
