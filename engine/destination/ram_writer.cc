#include "engine/destination/ram_writer.h"

#include <array>
#include <cstring>

namespace godwit {
namespace {

constexpr std::array<std::byte, kPageBytes> kZeroPage{};

}  // namespace

absl::StatusOr<RamWriter> RamWriter::create(std::span<const RamBlock> blocks) {
    RamWriter writer(blocks);
    for (const RamBlock& block : blocks) {
        if (block.backing != Backing::kHugetlb2M) {
            writer.mappings_.emplace_back();
            continue;
        }
        GODWIT_ASSIGN_OR_RETURN(Mapping mapping, Mapping::map_shared(block.file.get(), block.size));
        writer.mappings_.push_back(std::move(mapping));
    }
    return writer;
}

absl::Status RamWriter::put(BlockIndex block, Bytes offset, std::span<const std::byte> bytes) {
    const Mapping& mapping = mappings_[block];
    if (mapping.data() == nullptr) {
        const std::lock_guard lock(file_locks_[block]);
        return write_fully(blocks_[block].file.get(), bytes.data(), bytes.size(), offset);
    }
    std::memcpy(mapping.data() + offset, bytes.data(), bytes.size());
    return absl::OkStatus();
}

absl::Status RamWriter::write(const PagesBody& pages, std::span<const std::byte> raw) {
    const Bytes base = pages.chunk * kChunkBytes;
    absl::Status outcome;
    size_t taken = 0;
    for_each_run(pages.filled(), [&](PageRange run) {
        if (!outcome.ok()) return;
        const size_t size = run.count() * kPageBytes;
        outcome = put(pages.block, base + run.begin * kPageBytes, raw.subspan(taken, size));
        taken += size;
    });
    for_each_run(pages.zero, [&](PageRange run) {
        for (PageIndex page = run.begin; page < run.end && outcome.ok(); ++page)
            outcome = put(pages.block, base + page * kPageBytes, kZeroPage);
    });
    return annotate(outcome, "Cannot write guest memory");
}

}  // namespace godwit
