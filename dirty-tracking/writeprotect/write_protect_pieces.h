// Between the tracker's two sources: pieces of work for one system call, and file against address.
#pragma once

#include <algorithm>

#include "dirty-tracking/writeprotect/ram_mappings.h"
#include "engine/base/page_bitmap.h"

namespace godwit {

// One call works on no more than this, because meanwhile the kernel holds up the faults of KVM in
// the whole range (MMU notifier) and keeps the target's mmap lock. On 4 KiB tmpfs, all mapped:
inline constexpr uint64_t kScanBytes = uint64_t{64} << 20;  // 30–600 µs
inline constexpr uint64_t kArmBytes = uint64_t{16} << 20;   // 0.4 ms
// Where nearly nothing is mapped a call is the cost: 3 us, whatever its length.
inline constexpr uint64_t kSkimBytes = uint64_t{256} << 20;

inline AddressRange first_piece(AddressRange range, uint64_t bytes) {
    return {range.begin, std::min(range.end, range.begin + bytes)};
}

// Where `mapping` has the bytes [begin, end) of the file; empty when it has none of them.
inline AddressRange view_of(const RamMapping& mapping, Bytes begin, Bytes end) {
    begin = std::max(begin, mapping.offset);
    end = std::min(end, mapping.offset + mapping.length);
    if (begin >= end) return {};
    return {mapping.address + (begin - mapping.offset), mapping.address + (end - mapping.offset)};
}

inline PageRange pages_of(const RamMapping& mapping, AddressRange range) {
    return {(range.begin - mapping.address + mapping.offset) / kPageBytes,
            (range.end - mapping.address + mapping.offset) / kPageBytes};
}

inline PageRange pages_of_chunks(PageRange chunks) {
    return {chunks.begin * kPagesPerChunk, chunks.end * kPagesPerChunk};
}

}  // namespace godwit
