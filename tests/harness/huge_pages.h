// Huge pages of 2 MiB for a test.
#pragma once

#include <cstdint>

namespace godwit::testing {

// Adds to what the host has reserved, and takes it back at the end.
class ReservedHugePages {
  public:
    explicit ReservedHugePages(uint64_t count);
    ~ReservedHugePages();
    ReservedHugePages(const ReservedHugePages&) = delete;
    ReservedHugePages& operator=(const ReservedHugePages&) = delete;

    // Whether the host could: it may lack the memory, or the permission.
    [[nodiscard]] bool enough() const { return enough_; }

  private:
    uint64_t before_;
    bool enough_ = false;
};

}  // namespace godwit::testing
