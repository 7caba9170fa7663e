// Sizes and durations: constants, parsing of what users write, printing for people.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/base/status.h"

namespace godwit {

// Pages are 4 KiB on the wire and in every bitmap, whatever backs the guest (DESIGN: naming pages).
inline constexpr size_t kPageBytes = 4096;
// A chunk is the aligned 2 MiB that always travels on one stream.
inline constexpr size_t kChunkBytes = size_t{2} << 20;
inline constexpr size_t kPagesPerChunk = kChunkBytes / kPageBytes;
// A chunk's pages as one bit each.
inline constexpr size_t kWordsPerChunk = kPagesPerChunk / 64;

using Bytes = uint64_t;
using PageIndex = uint64_t;   // offset in the RAM block's file / kPageBytes
using ChunkIndex = uint64_t;  // offset in the RAM block's file / kChunkBytes
using BlockIndex = uint32_t;  // position of the RAM block in the VM's list of blocks

// "512", "64K", "1GiB", "1.5G" (powers of 1024; a trailing B or iB is allowed). Errors:
// InvalidArgument for anything else, a negative number, or more than 2^63.
absl::StatusOr<Bytes> parse_bytes(std::string_view text);

// "250us", "50ms", "1.5s", "2m"; a bare number is refused. Errors: InvalidArgument.
absl::StatusOr<std::chrono::nanoseconds> parse_duration(std::string_view text);

// A rate in bytes per second: "1Gbit" (also "100Mbit", "1Gb/s"; powers of 1000, bits) or "125MB/s",
// "64MiB/s", "64MiB" (bytes). Errors: InvalidArgument.
absl::StatusOr<Bytes> parse_rate(std::string_view text);

// "1.50 GiB", "64.00 KiB", "12 B".
std::string format_bytes(Bytes bytes);

// Milliseconds as a double, for reports.
inline double to_ms(std::chrono::nanoseconds duration) {
    return std::chrono::duration<double, std::milli>(duration).count();
}

}  // namespace godwit
