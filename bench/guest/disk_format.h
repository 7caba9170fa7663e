// The raw disk image that guest-disk makes and the guest checks: every sector is a function of the
// image's seed and the sector's number. Sector 0 is a header that carries the seed.
#pragma once

#include <cstdint>

namespace godwit {

inline constexpr unsigned kSectorBytes = 512;
inline constexpr unsigned kWordsPerSector = kSectorBytes / 8;
inline constexpr unsigned kSectorsPerPage = 8;
inline constexpr uint64_t kDiskMagic = 0x6b73696464776f67;  // "gowddisk" in memory

// Words of sector 0; its other words are zero. Page 0 (sectors 0 to 7) holds nothing else of use.
inline constexpr unsigned kDiskMagicWord = 0;
inline constexpr unsigned kDiskSeedWord = 1;
inline constexpr unsigned kDiskSectorCountWord = 2;

// Word `word` (0 to 63) of sector `sector` >= 1: one round of splitmix64.
inline constexpr uint64_t disk_word(uint64_t seed, uint64_t sector, unsigned word) {
    uint64_t x = seed + (sector * kWordsPerSector + word + 1) * 0x9e3779b97f4a7c15;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9;
    return x ^ x >> 27;
}

}  // namespace godwit
