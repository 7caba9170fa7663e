// PageServer: answers requests for pages at the source.
#pragma once

#include <memory>
#include <span>

#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "engine/postcopy/fault_stats.h"
#include "engine/postcopy/pending_pages.h"
#include "engine/postcopy/prepager.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Pages of one chunk: what FaultServer::place() takes at the other end.
struct PageAnswer {
    BlockIndex block = 0;
    ChunkIndex chunk = 0;
    ChunkMask present{};
    ChunkMask zero{};                  // of these: all zero, not in `bytes`
    std::span<const std::byte> bytes;  // the others, ascending; valid during the call
    PageOrigin origin = PageOrigin::kDemand;
};

// Takes answers to the urgent stream. A seam; must not allocate.
class PageSink {
  public:
    virtual ~PageSink() = default;
    virtual absl::Status send(const PageAnswer& answer) = 0;
};

// Reads from the RAM file of a guest that does not run any more. The page that was asked for leaves
// first, alone (on hugetlbfs with its whole chunk, the only answer that can be filled there); then,
// if they are pending, pages behind it that will probably be wanted next. One thread drives it, and
// it allocates nothing after create() unless it fails.
class PageServer {
  public:
    // All must outlive it. Errors: mmap's.
    static absl::StatusOr<std::unique_ptr<PageServer>> create(
        std::span<const RamBlock> blocks, PendingPages& pending, PageSink& sink,
        uint32_t prepaging_limit = Prepager::kLimit);

    // A page that was sent before is sent again: the destination may have died since. Errors:
    // InvalidArgument (there is no such page; nothing was sent); pread's; the sink's, after which
    // pages are lost that were taken from `pending`: only the destination knows what it misses.
    absl::Status answer(BlockIndex block, PageIndex page);

  private:
    PageServer(std::span<const RamBlock> blocks, PendingPages& pending, PageSink& sink,
               uint32_t prepaging_limit, Mapping buffer);
    absl::Status send(BlockIndex block, ChunkIndex chunk, const ChunkMask& pages,
                      PageOrigin origin);

    std::span<const RamBlock> blocks_;
    PendingPages& pending_;
    PageSink& sink_;
    Prepager prepager_;
    Mapping buffer_;  // one chunk
};

}  // namespace godwit
