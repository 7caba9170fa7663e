// RamWriter: puts received pages into the RAM files.
#pragma once

#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "engine/base/mapping.h"
#include "engine/base/ram_block.h"
#include "transport/frame/pages_body.h"

namespace godwit {

// Chunks may be written by several threads at once; one chunk by one thread at a time.
class RamWriter {
  public:
    // `blocks` must outlive it. Errors: mmap's (hugetlbfs has no write(2) and is mapped).
    static absl::StatusOr<RamWriter> create(std::span<const RamBlock> blocks);

    // Writes the filled pages, whose bytes are `raw` one after another (of a delta page: the XOR
    // with what is there), and zeros the zero pages; where nothing is there, nothing is made.
    // Errors: pwrite's, ResourceExhausted when the host has no memory left.
    absl::Status write(const PagesBody& pages, std::span<const std::byte> raw);

  private:
    explicit RamWriter(std::span<const RamBlock> blocks)
        : blocks_(blocks), file_locks_(std::make_unique<std::mutex[]>(blocks.size())) {}
    absl::Status put(BlockIndex block, Bytes offset, std::span<const std::byte> bytes);
    absl::Status put_deltas(BlockIndex block, Bytes offset, std::span<const std::byte> deltas);
    absl::Status put_zeros(BlockIndex block, PageRange pages);

    std::span<const RamBlock> blocks_;
    // By block. A file takes one write at a time: who waits for it in the kernel spins, on a CPU
    // that others could use, who waits here sleeps.
    std::unique_ptr<std::mutex[]> file_locks_;
    std::vector<Mapping> mappings_;  // by block; empty where pwrite works
};

}  // namespace godwit
