// RamReader: guest RAM into frames, with the hash of each page.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/base/hash.h"
#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "engine/base/status.h"

namespace godwit {

// RAM on a tmpfs is read through a mapping, by copy_page(): copy, zero test and hash in one pass
// that takes no longer than a copy. The first pass over 4 KiB pages takes half as long again, since
// each has to be mapped, and is a third faster than by pread all the same. Not where pages are
// missing (cachestat says so: reading a hole through a mapping would fill it) nor on hugetlbfs:
// there it is pread, then the hashes. Only while nobody waits for page faults in these files: a
// mapping makes no difference to QEMU, but a read through it fills holes.
//
// Several threads may read at once. Allocates only when it is made.
class RamReader {
  public:
    // `blocks` must outlive it. Errors: mmap's.
    static absl::StatusOr<RamReader> create(std::span<const RamBlock> blocks);

    // Asked for every page of a run, ascending: whether its bytes are to stay. Of a page of zeros
    // (hash {0, 0}) there are none.
    using Keep = absl::FunctionRef<bool(PageIndex page, const Hash128& hash)>;
    // Reads a run of pages, and leaves the bytes of those to keep at the front of `to` (as large
    // as the run), one after another; what is behind them is undefined. Returns how many bytes
    // they are. Every hash is of the bytes that were read, whatever the guest writes meanwhile.
    // Errors: pread's; DataLoss when the memory behind a page failed, and in every call after it.
    absl::StatusOr<size_t> read(BlockIndex block, PageRange run, std::span<std::byte> to,
                                Keep keep);

  private:
    explicit RamReader(std::span<const RamBlock> blocks) : blocks_(blocks) {}
    [[nodiscard]] bool all_there(BlockIndex block, PageRange run) const;
    absl::StatusOr<size_t> read_mapped(BlockIndex block, PageRange run, std::byte* to, Keep keep);
    absl::StatusOr<size_t> read_copied(BlockIndex block, PageRange run, std::byte* to, Keep keep);

    std::span<const RamBlock> blocks_;
    std::vector<Mapping> mappings_;  // by block; empty where pread is better
    std::unique_ptr<std::atomic<bool>> failed_ = std::make_unique<std::atomic<bool>>(false);
};

}  // namespace godwit
