// The kernel command line; bench/guest/README.md describes every key.
#pragma once

#include <cstdint>

#include "bench/guest/kernel/text.h"

namespace godwit::guest {

enum class Pattern { kSequential, kRandom, kHot };
enum class Fill { kZero, kRandom, kText };
enum class Place { kLow, kHigh };
enum class DiskUse { kAuto, kOn, kOff };
enum class Rest { kSpin, kHalt };

inline constexpr uint64_t kFlatOut = 0;
inline constexpr uint64_t kUnlimited = ~uint64_t{0};

struct Config {
    uint64_t ws_bytes = 16u << 20;
    uint64_t rate = kFlatOut;  // pages written per second over all vCPUs
    bool idle = false;         // rate=idle
    Pattern pattern = Pattern::kSequential;
    uint64_t hot_writes_percent = 0;
    uint64_t hot_pages_percent = 0;
    Fill fill = Fill::kRandom;
    uint64_t change_bytes = 64;
    uint64_t seed = 1;
    uint64_t vcpu_count = 1;
    Rest rest = Rest::kSpin;           // when nothing is due
    uint64_t sweep_rate = kUnlimited;  // pages checked per second by the sweep, over all vCPUs
    Place place = Place::kLow;
    DiskUse disk = DiskUse::kAuto;
    uint64_t dma_bytes = 4u << 20;
    uint64_t disk_rate = kFlatOut;  // pages per second
    uint64_t disk_depth = 8;
};

// Parses the words after the first (QEMU puts the kernel's path there). On failure returns false
// and says in `problem` which word is wrong and what was expected.
bool parse_config(const char* command_line, Config& config, Line& problem);

}  // namespace godwit::guest
