// Addresses are numbers here, as KVM and /proc/self/maps have them.
#pragma once

#include <cstdint>

namespace godwit::resident {

inline void* pointer_to(uint64_t address) {
    return reinterpret_cast<void*>(address);  // NOLINT(performance-no-int-to-ptr)
}

}  // namespace godwit::resident
