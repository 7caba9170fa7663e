#include "engine/destination/ram_writer.h"

#include <array>
#include <cstring>

#include "transport/codec/xor_page.h"

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

absl::Status RamWriter::put_deltas(BlockIndex block, Bytes offset,
                                   std::span<const std::byte> deltas) {
    alignas(64) std::array<std::byte, kPageBytes> page;
    const Mapping& mapping = mappings_[block];
    for (; !deltas.empty(); deltas = deltas.subspan(kPageBytes), offset += kPageBytes) {
        if (mapping.data() != nullptr)
            std::memcpy(page.data(), mapping.data() + offset, kPageBytes);
        else
            GODWIT_RETURN_IF_ERROR(
                read_fully(blocks_[block].file.get(), page.data(), kPageBytes, offset));
        xor_page(page, deltas.first<kPageBytes>());
        GODWIT_RETURN_IF_ERROR(put(block, offset, page));
    }
    return absl::OkStatus();
}

absl::Status RamWriter::put_zeros(BlockIndex block, PageRange pages) {
    for (PageIndex page = pages.begin; page < pages.end; ++page) {
        GODWIT_ASSIGN_OR_RETURN(
            const Bytes data,
            find_data(blocks_[block].file.get(), page * kPageBytes, pages.end * kPageBytes));
        page = data / kPageBytes;
        if (page < pages.end) GODWIT_RETURN_IF_ERROR(put(block, page * kPageBytes, kZeroPage));
    }
    return absl::OkStatus();
}

absl::Status RamWriter::write(const PagesBody& pages, std::span<const std::byte> raw) {
    const PageIndex first = pages.chunk * kPagesPerChunk;
    absl::Status outcome;
    const auto is_delta = [&](PageIndex page) { return pages.delta[page / 64] >> (page % 64) & 1; };
    for_each_run(pages.filled(), [&](PageRange run) {
        for (PageIndex page = run.begin; page < run.end && outcome.ok();) {
            const bool delta = is_delta(page);
            PageIndex end = page + 1;
            while (end < run.end && is_delta(end) == delta) ++end;
            const auto bytes = raw.first((end - page) * kPageBytes);
            const Bytes offset = (first + page) * kPageBytes;
            outcome =
                delta ? put_deltas(pages.block, offset, bytes) : put(pages.block, offset, bytes);
            raw = raw.subspan(bytes.size());
            page = end;
        }
    });
    for_each_run(pages.zero, [&](PageRange run) {
        if (outcome.ok()) outcome = put_zeros(pages.block, {first + run.begin, first + run.end});
    });
    return annotate(outcome, "Cannot write guest memory");
}

}  // namespace godwit
