#include "engine/postcopy/beside_missing.h"

#include <array>

namespace godwit {
namespace {

constexpr std::array<std::byte, kPageBytes> kZeros{};

absl::StatusOr<bool> is_there(const RamBlock& block, Bytes offset) {
    GODWIT_ASSIGN_OR_RETURN(const Bytes data,
                            find_data(block.file.get(), offset, offset + kPageBytes));
    return data == offset;
}

absl::Status put_run(FaultMemory& memory, BlockIndex index, PageRange run,
                     std::span<const std::byte> bytes) {
    const RamBlock& block = memory.blocks()[index];
    for (PageIndex page = run.begin; page < run.end;) {
        GODWIT_ASSIGN_OR_RETURN(const bool there, is_there(block, page * kPageBytes));
        PageIndex end = page + 1;
        while (end < run.end) {
            GODWIT_ASSIGN_OR_RETURN(const bool next_is, is_there(block, end * kPageBytes));
            if (next_is != there) break;
            ++end;
        }
        const auto part = bytes.first((end - page) * kPageBytes);
        FillTotals totals;
        if (!there) GODWIT_RETURN_IF_ERROR(memory.fill(index, page, part, 0, totals));
        // QEMU may have touched it in between: then it is there, with zeros.
        if (there || totals.existing_pages > 0)
            GODWIT_RETURN_IF_ERROR(
                write_fully(block.file.get(), part.data(), part.size(), page * kPageBytes));
        bytes = bytes.subspan(part.size());
        page = end;
    }
    return absl::OkStatus();
}

absl::Status put_zero_run(const RamBlock& block, PageRange run) {
    for (PageIndex page = run.begin; page < run.end; ++page) {
        GODWIT_ASSIGN_OR_RETURN(const bool there, is_there(block, page * kPageBytes));
        if (there)
            GODWIT_RETURN_IF_ERROR(
                write_fully(block.file.get(), kZeros.data(), kPageBytes, page * kPageBytes));
    }
    return absl::OkStatus();
}

}  // namespace

absl::Status put_beside_missing(FaultMemory& memory, BlockIndex block, ChunkIndex chunk,
                                const ChunkMask& present, const ChunkMask& zero,
                                std::span<const std::byte> raw) {
    const PageIndex first = chunk * kPagesPerChunk;
    ChunkMask filled{};
    for (size_t i = 0; i < filled.size(); ++i) filled[i] = present[i] & ~zero[i];
    absl::Status outcome;
    for_each_run(filled, [&](PageRange run) {
        if (!outcome.ok()) return;
        const size_t bytes = (run.end - run.begin) * kPageBytes;
        outcome = put_run(memory, block, {first + run.begin, first + run.end}, raw.first(bytes));
        raw = raw.subspan(bytes);
    });
    for_each_run(zero, [&](PageRange run) {
        if (outcome.ok())
            outcome = put_zero_run(memory.blocks()[block], {first + run.begin, first + run.end});
    });
    return outcome;
}

}  // namespace godwit
