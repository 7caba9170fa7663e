// The memory in which the resident marks dirty pages for the agent.
#pragma once

#include <span>
#include <vector>

#include "engine/base/mapping.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// One bitmap per block in a memfd sealed against any change of size. Movable, not thread-safe
// on this side; the resident may set bits at any time.
class SharedBitmaps {
  public:
    SharedBitmaps() = default;
    // All clear. Errors: memfd_create's, ftruncate's, mmap's.
    static absl::StatusOr<SharedBitmaps> create(std::span<const uint64_t> page_counts);

    // Moves every set bit into `dirty`. Error: InvalidArgument when it has another shape.
    absl::Status take(PageSet& dirty);

    [[nodiscard]] int memory() const { return memory_.get(); }
    // Of a block's bitmap in the memory, in bytes.
    [[nodiscard]] uint64_t offset(size_t block) const { return parts_[block].offset; }

  private:
    struct Part {
        uint64_t offset = 0;
        uint64_t page_count = 0;
    };

    UniqueFd memory_;
    Mapping mapping_;
    std::vector<Part> parts_;
};

}  // namespace godwit
