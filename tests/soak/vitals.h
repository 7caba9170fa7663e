// What processes hold, and whether that stays as it is: memory, mappings, descriptors,
// threads.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

struct Vitals {
    Bytes memory = 0;  // their own: guests' RAM, which they map, does not count
    int mappings = 0;  // the stack of a thread that has ended and was not joined is one
    int descriptors = 0;
    int threads = 0;
    Vitals& operator+=(const Vitals& other) {
        memory += other.memory;
        mappings += other.mappings;
        descriptors += other.descriptors;
        threads += other.threads;
        return *this;
    }
    bool operator==(const Vitals&) const = default;
};

// From /proc/PID (proc(5)). Errors: NotFound when it is gone, Internal.
absl::StatusOr<Vitals> vitals_of(pid_t pid);

// More than this between the warm-up and the end is a leak, of both agents together: what one has
// for a guest moves with it. Descriptors and threads are the same to the last one where nothing
// leaks; memory is not: an agent keeps reports of its last migrations, and malloc(3) has heaps, of
// which each has a mapping or two, for every few threads.
struct FlatnessBounds {
    Bytes memory = Bytes{48} << 20;
    int mappings = 60;
    int descriptors = 1;
    int threads = 3;
};

// Fewer tell nothing.
inline constexpr size_t kLeastRests = 8;

struct Flatness {
    // Medians of the second and of the last quarter of what was seen. The first is the warm-up.
    Vitals before, after;
    std::vector<std::string> leaks;  // in words
};

// Error: FailedPrecondition with fewer than kLeastRests.
absl::StatusOr<Flatness> judge(const std::vector<Vitals>& rests, const FlatnessBounds& bounds);

}  // namespace godwit
