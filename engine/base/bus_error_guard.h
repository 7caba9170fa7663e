// BusErrorGuard: reads of a file mapping that must not end the process when a page can't be had.
#pragma once

#include <cstddef>
#include <span>

namespace godwit {

// While one lives, a SIGBUS of its thread at an address within the range (memory failure on that
// page, no room for a hole, a file that was cut short) puts a page of zeros in the place of the one
// that can't be read, and the read goes on; hit() tells. The mapping is of no more use then. Any
// other SIGBUS ends the process as before. One per thread at a time.
class BusErrorGuard {
  public:
    explicit BusErrorGuard(std::span<const std::byte> range);
    ~BusErrorGuard();
    BusErrorGuard(const BusErrorGuard&) = delete;
    BusErrorGuard& operator=(const BusErrorGuard&) = delete;

    [[nodiscard]] bool hit() const;
};

}  // namespace godwit
