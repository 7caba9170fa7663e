#include "engine/base/copy_page.h"

#include <immintrin.h>

#include <cstring>
#include <span>

#include "engine/base/units.h"
// The constants and the last steps of XXH3 are in the header's inline part.
#define XXH_INLINE_ALL
#include <xxhash.h>

namespace godwit {
namespace {

// XXH3-128 of a long input (https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md): eight
// lanes take 64-byte stripes, 16 of these to a block, after which the lanes are scrambled; the last
// stripe is the input's last 64 bytes.
constexpr size_t kStripe = 64;
constexpr size_t kStripesPerBlock = 16;
constexpr size_t kBlock = kStripe * kStripesPerBlock;
constexpr size_t kSecretStep = 8;
constexpr size_t kSecretBytes = XXH_SECRET_DEFAULT_SIZE;
constexpr size_t kLastSecretOffset = kSecretBytes - kStripe - 7;
constexpr size_t kMergeOffset = 11;
static_assert(kPageBytes % kBlock == 0);

#define GODWIT_AVX2 [[gnu::target("avx2"), gnu::always_inline]] inline

struct Lanes {
    __m256i low;
    __m256i high;
};

// As assembly, so that the compiler can't read the page a second time: it may have changed.
GODWIT_AVX2 __m256i read_once(const std::byte* from) {
    __m256i value;
    asm volatile("vmovdqu %1, %0" : "=x"(value) : "m"(*reinterpret_cast<const __m256i_u*>(from)));
    return value;
}

GODWIT_AVX2 __m256i secret_at(size_t offset) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i_u*>(XXH3_kSecret + offset));
}

GODWIT_AVX2 __m256i accumulate(__m256i lanes, __m256i data, __m256i secret) {
    const __m256i keyed = _mm256_xor_si256(data, secret);
    const __m256i product = _mm256_mul_epu32(keyed, _mm256_srli_epi64(keyed, 32));
    const __m256i swapped = _mm256_shuffle_epi32(data, _MM_SHUFFLE(1, 0, 3, 2));
    return _mm256_add_epi64(product, _mm256_add_epi64(lanes, swapped));
}

GODWIT_AVX2 __m256i scramble(__m256i lanes, __m256i secret) {
    const __m256i prime = _mm256_set1_epi32(static_cast<int>(XXH_PRIME32_1));
    const __m256i mixed =
        _mm256_xor_si256(_mm256_xor_si256(lanes, _mm256_srli_epi64(lanes, 47)), secret);
    const __m256i high = _mm256_mul_epu32(_mm256_srli_epi64(mixed, 32), prime);
    return _mm256_add_epi64(_mm256_mul_epu32(mixed, prime), _mm256_slli_epi64(high, 32));
}

GODWIT_AVX2 void take_stripe(Lanes& lanes, std::byte* to, const std::byte* from,
                             size_t secret_offset) {
    const __m256i low = read_once(from);
    const __m256i high = read_once(from + 32);
    _mm_prefetch(reinterpret_cast<const char*>(from + kPageBytes), _MM_HINT_T0);
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to), low);
    _mm256_storeu_si256(reinterpret_cast<__m256i_u*>(to + 32), high);
    lanes.low = accumulate(lanes.low, low, secret_at(secret_offset));
    lanes.high = accumulate(lanes.high, high, secret_at(secret_offset + 32));
}

[[gnu::target("avx2")]] Hash128 copy_page_avx2(std::byte* to, const std::byte* from) {
    alignas(32) xxh_u64 start[8] = XXH3_INIT_ACC;
    Lanes lanes{_mm256_load_si256(reinterpret_cast<const __m256i*>(start)),
                _mm256_load_si256(reinterpret_cast<const __m256i*>(start + 4))};
    size_t at = 0;
    for (; at < kPageBytes - kBlock; at += kBlock) {
        for (size_t i = 0; i < kStripesPerBlock; ++i)
            take_stripe(lanes, to + at + i * kStripe, from + at + i * kStripe, i * kSecretStep);
        lanes.low = scramble(lanes.low, secret_at(kSecretBytes - kStripe));
        lanes.high = scramble(lanes.high, secret_at(kSecretBytes - kStripe + 32));
    }
    for (size_t i = 0; i < kStripesPerBlock - 1; ++i)
        take_stripe(lanes, to + at + i * kStripe, from + at + i * kStripe, i * kSecretStep);
    at = kPageBytes - kStripe;
    take_stripe(lanes, to + at, from + at, kLastSecretOffset);

    _mm256_store_si256(reinterpret_cast<__m256i*>(start), lanes.low);
    _mm256_store_si256(reinterpret_cast<__m256i*>(start + 4), lanes.high);
    return {.low = XXH3_mergeAccs(start, XXH3_kSecret + kMergeOffset, kPageBytes * XXH_PRIME64_1),
            .high = XXH3_mergeAccs(start, XXH3_kSecret + kSecretBytes - kStripe - kMergeOffset,
                                   ~(kPageBytes * XXH_PRIME64_2))};
}

#undef GODWIT_AVX2

}  // namespace

Hash128 copy_page(std::byte* to, const std::byte* from) {
    if (is_zero({from, kPageBytes})) return {};
    if (__builtin_cpu_supports("avx2")) return copy_page_avx2(to, from);
    std::memcpy(to, from, kPageBytes);
    return hash_bytes({to, kPageBytes});
}

}  // namespace godwit
