#include "transport/codec/xor_page.h"

#include <immintrin.h>

namespace godwit {
namespace {

constexpr size_t kLineBytes = 64;

// The width that every x86-64 has. Loaded and stored by name: a pointer to a vector type of the
// compiler's counts as aligned with clang.
constexpr size_t kPieceBytes = sizeof(__m128i);

__m128i load(const std::byte* from) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i_u*>(from));
}
void store(std::byte* to, __m128i piece) {
    _mm_storeu_si128(reinterpret_cast<__m128i_u*>(to), piece);
}

uint32_t exchange_portable(std::byte* page, std::byte* kept) {
    uint32_t changed = 0;
    for (size_t i = 0; i < kPageBytes; i += kLineBytes) {
        __m128i any = _mm_setzero_si128();
        for (size_t j = i; j < i + kLineBytes; j += kPieceBytes) {
            const __m128i now = load(page + j);
            const __m128i difference = _mm_xor_si128(now, load(kept + j));
            any = _mm_or_si128(any, difference);
            store(page + j, difference);
            store(kept + j, now);
        }
        const int equal = _mm_movemask_epi8(_mm_cmpeq_epi8(any, _mm_setzero_si128()));
        changed += equal == 0xffff ? 0 : 1;
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
    for (size_t i = 0; i < kPageBytes; i += kPieceBytes)
        store(page.data() + i, _mm_xor_si128(load(page.data() + i), load(delta.data() + i)));
}

}  // namespace godwit
