// What guests have in their memory, in sets far larger than the caches.
#pragma once

#include <span>

#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "engine/base/units.h"

namespace godwit::bench {

enum class Kind {
    kNoise,
    kText,     // words, the frequent ones more often
    kZeros,    // allocated, all zero
    kDelta,    // pages as XOR of old and new: 64 changed bytes in one place
    kScatter,  // the same, 64 bytes here and there
};
inline constexpr Kind kKinds[] = {Kind::kNoise, Kind::kText, Kind::kZeros, Kind::kDelta,
                                  Kind::kScatter};
const char* kind_name(Kind kind);

// Bytes of every set: 256 MiB unless set_bytes_of_sets() said otherwise. A multiple of a chunk.
Bytes bytes_of_sets();
void set_bytes_of_sets(Bytes bytes);

// Made once and kept. The caller may change it, and then changes it for all.
std::span<std::byte> sample(Kind kind);
// The n-th chunk of a set, and one that is half the set away from it.
std::span<std::byte> chunk_of(std::span<std::byte> set, size_t number);
std::span<std::byte> far_chunk_of(std::span<std::byte> set, size_t number);

// Two chunks in turn, as frames are built in.
std::span<std::byte> staging(size_t number);

// A file like a guest's RAM of bytes_of_sets() and nothing in it, on a tmpfs that no path leads to,
// or of huge pages from the host's reserve: it is gone when this process is. Errors: fsopen's
// (PermissionDenied without root), memfd_create's; mapping it fails without a reserve.
absl::StatusOr<UniqueFd> make_empty_ram_file(Backing backing);

// The same noise in a file like a guest's RAM, on a tmpfs that no path leads to: it is gone when
// this process is. `map` is a mapping of it whose pages are all there. Errors: fsopen's
// (PermissionDenied without root).
struct RamFile {
    UniqueFd file;
    Mapping map;
};
absl::StatusOr<RamFile> make_ram_file(bool huge_pages);

}  // namespace godwit::bench
