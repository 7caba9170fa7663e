// The guest's RAM file at the source, as the freeze left it, and the link to it that outlives QEMU.
#pragma once

#include <span>

#include "engine/base/ram_block.h"
#include "tests/sim/guest.h"
#include "transport/frame/pages_body.h"

namespace godwit::sim {

// The simulated guest's pages are the first of the only block.
class KeptRam {
  public:
    // Of a guest that does not run any more.
    void keep_content(const Memory& memory);
    // The second link.
    void link() { is_linked_ = true; }
    void release() { is_linked_ = false; }
    [[nodiscard]] bool exists() const { return is_linked_; }

    // The file is there once keep_content() was called.
    [[nodiscard]] std::span<const RamBlock> blocks() const { return {&block_, 1}; }

  private:
    RamBlock block_{.name = "ram", .size = kChunkBytes, .backing = Backing::kTmpfs4k};
    bool is_linked_ = false;
};

// Which version of a page these bytes are.
int version_of(std::span<const std::byte> page);
ChunkMask mask_of(int page);

}  // namespace godwit::sim
