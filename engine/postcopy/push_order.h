// PushOrder: in which order the source pushes what nobody has asked for yet.
#pragma once

#include <span>
#include <vector>

#include "engine/base/page_bitmap.h"

namespace godwit {

struct ChunkPlace {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    bool operator==(const ChunkPlace&) const = default;
};

// Hot chunks first: what was written lately will be wanted soon. Those with more hot pages before
// those with fewer; the same number, and all cold chunks, in the order of their addresses.
class PushOrder {
  public:
    // Chunks with a page in `all`. `hot` has the same shape; only its pages of such chunks count.
    PushOrder(const PageSet& all, const PageSet& hot, size_t stream_count);

    // What travels on one stream: the chunks with (chunk + block) % stream_count == stream.
    [[nodiscard]] std::span<const ChunkPlace> share(size_t stream) const { return shares_[stream]; }

  private:
    std::vector<std::vector<ChunkPlace>> shares_;
};

}  // namespace godwit
