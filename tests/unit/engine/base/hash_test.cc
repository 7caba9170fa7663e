#include "engine/base/hash.h"

#include <gtest/gtest.h>
#include <xxhash.h>

#include <random>
#include <vector>

#include "engine/base/units.h"

namespace godwit {
namespace {

// What the CPU's SIMD computes is what the library's portable code does: hosts of different kinds
// must agree, and they hash every length from a header to a chunk.
TEST(Hash, IsXxh3WhateverTheCpu) {
    std::mt19937_64 random(1);
    std::vector<std::byte> bytes(kChunkBytes);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    std::vector<size_t> lengths{kPageBytes, kPageBytes + 1, 3 * kPageBytes, kChunkBytes};
    for (size_t length = 0; length < 1100; ++length) lengths.push_back(length);
    for (const size_t length : lengths) {
        const auto input = std::span<const std::byte>(bytes).last(length);
        const XXH128_hash_t expected = XXH3_128bits(input.data(), length);
        EXPECT_EQ(hash_bytes(input), (Hash128{expected.low64, expected.high64})) << length;
        EXPECT_EQ(checksum_bytes(input), XXH3_64bits(input.data(), length)) << length;
    }
    // From the specification's sample vectors: XXH3 of nothing.
    EXPECT_EQ(checksum_bytes({}), 0x2d06800538d394c2U);
    EXPECT_EQ(to_hex(hash_bytes({})), "99aa06d3014798d86001c324468d497f");
}

TEST(Hash, IsZeroSeesEverySingleByte) {
    std::vector<std::byte> bytes(kPageBytes + 1);
    for (const size_t length :
         {size_t{0}, size_t{1}, size_t{7}, size_t{8}, size_t{9}, kPageBytes}) {
        const auto page = std::span<const std::byte>(bytes).subspan(1, length);
        EXPECT_TRUE(is_zero(page)) << length;
        for (size_t i = 0; i < length; ++i) {
            bytes[1 + i] = std::byte{0x80};
            EXPECT_FALSE(is_zero(page)) << length << ' ' << i;
            bytes[1 + i] = std::byte{0};
        }
    }
}

}  // namespace
}  // namespace godwit
