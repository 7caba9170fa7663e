// XXH3-128 of memory: page hashes, chunk hashes for verify, hashes of boot files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "engine/base/status.h"

namespace godwit {

struct Hash128 {
    uint64_t low = 0;
    uint64_t high = 0;
    bool operator==(const Hash128&) const = default;
};

// XXH3-128 with seed 0 (https://github.com/Cyan4973/xxHash, specification of XXH3).
Hash128 hash_bytes(std::span<const std::byte> bytes);

// XXH3-64 with seed 0: header and body checksums of frames.
uint64_t checksum_bytes(std::span<const std::byte> bytes);

// XXH3-64 of hashes one after another, low half first: one checksum of what they stand for.
uint64_t checksum_hashes(std::span<const Hash128> hashes);

// 32 hexadecimal digits, high half first.
std::string to_hex(Hash128 hash);

// The hash of a whole file's bytes. Errors: open's and read's, with the path in the message.
absl::StatusOr<Hash128> hash_file(const std::string& path);

// Whether all bytes are zero.
bool is_zero(std::span<const std::byte> bytes);

}  // namespace godwit
