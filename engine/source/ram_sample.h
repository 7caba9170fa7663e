// What guest RAM is like to send: samples of it are read, hashed and packed as a migration would.
#pragma once

#include <span>

#include "engine/base/ram_block.h"
#include "engine/base/status.h"

namespace godwit {

// CPU seconds are of one thread, for a byte of a page.
struct RamSample {
    uint64_t touched_pages = 0;  // allocated in all blocks
    uint64_t sampled_pages = 0;
    double zero_share = 0;           // of the sampled pages
    double read_cpu_s_per_byte = 0;  // copy, zero test, hash
    // What a codec makes of the pages that are not zero.
    struct Packing {
        double wire_share = 1;  // bytes after it for each byte; 1: not worth it
        double pack_cpu_s_per_byte = 0;
        double unpack_cpu_s_per_byte = 0;
    };
    Packing lz4;
    Packing zstd;
};

// At most kMostSampledChunks chunks of 2 MiB, evenly over what is allocated: less than a second.
// Never touches what is not. Errors: read's; NotFound where nothing is allocated.
absl::StatusOr<RamSample> sample_ram(std::span<const RamBlock> blocks);

inline constexpr uint64_t kMostSampledChunks = 64;

// Whether chunks go packed that shrink to this share (transport/codec/chunk_codec.h).
constexpr bool goes_packed(double wire_share) { return wire_share <= 15.0 / 16; }

}  // namespace godwit
