// Bytes that differ from run to run of no test: the seed is in the test.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

namespace godwit {

using Random = std::mt19937_64;

inline std::vector<std::byte> random_bytes(Random& random, size_t size) {
    std::vector<std::byte> bytes(size);
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
    return bytes;
}

// Less than `limit`.
inline size_t random_below(Random& random, size_t limit) { return random() % limit; }

}  // namespace godwit
