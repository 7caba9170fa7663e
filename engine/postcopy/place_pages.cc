// The half of FaultServer that any receiving thread runs: pages that came are put in place.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <mutex>

#include "engine/postcopy/fault_server.h"
#include "engine/postcopy/mask_runs.h"

namespace godwit {
namespace {

constexpr uint32_t kGroupPages = FaultMemory::kPiecePages;  // aligned: they share a word
static_assert(64 % kGroupPages == 0);

uint64_t count(uint64_t bits) { return static_cast<uint64_t>(std::popcount(bits)); }

}  // namespace

// Pages of one word, and the bytes of those that are not zero.
struct FaultServer::Group {
    BlockIndex block = 0;
    size_t word = 0;
    uint64_t present = 0;
    uint64_t zero = 0;
    std::span<const std::byte> raw;
    PageOrigin origin = PageOrigin::kPush;
};

absl::Status FaultServer::check_pages(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                                      const ChunkMask& zero, size_t raw_bytes) const {
    if (block >= missing_.block_count() || chunk >= missing_.chunk_count(block))
        return absl::InvalidArgumentError(
            fmt::format("pages for chunk {} of RAM block {}, which does not exist", chunk, block));
    uint64_t filled = 0;
    for (size_t i = 0; i < present.size(); ++i) {
        if ((zero[i] & ~present[i]) != 0)
            return absl::InvalidArgumentError("zero pages that are not among the pages");
        filled += count(present[i] & ~zero[i]);
    }
    if (raw_bytes != filled * kPageBytes)
        return absl::InvalidArgumentError(fmt::format("{} bytes for {} pages", raw_bytes, filled));
    return absl::OkStatus();
}

absl::Status FaultServer::place(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                                const ChunkMask& zero, std::span<const std::byte> raw,
                                PageOrigin origin) {
    GODWIT_RETURN_IF_ERROR(check_pages(block, chunk, present, zero, raw.size()));
    if (memory_.granule_pages(block) > 1)
        return place_huge(block, chunk, present, zero, raw, origin);
    for (size_t i = 0; i < present.size(); ++i) {
        for (uint32_t first = 0; first < 64; first += kGroupPages) {
            const uint64_t these = present[i] & bit_run(first, kGroupPages);
            if (these == 0) continue;
            const size_t bytes = count(these & ~zero[i]) * kPageBytes;
            GODWIT_RETURN_IF_ERROR(place_group({.block = block,
                                                .word = chunk * kWordsPerChunk + i,
                                                .present = these,
                                                .zero = these & zero[i],
                                                .raw = raw.first(bytes),
                                                .origin = origin}));
            raw = raw.subspan(bytes);
        }
    }
    return absl::OkStatus();
}

absl::Status FaultServer::place_group(const Group& group) {
    // Who claims a page is the only one to place it, until its bit is cleared: otherwise a second
    // copy could come into the hole that the guest makes by giving the page back.
    const uint64_t claimed = claimed_[group.block].set(group.word, group.present);
    const uint64_t mine = group.present & ~claimed;
    const uint64_t wanted = mine & missing_.words(group.block).load(group.word);
    uint64_t placed = wanted & group.zero;  // the page is a hole: that is zero already
    uint64_t existing = 0;
    const absl::Status status = fill_group(group, wanted & ~group.zero, placed, existing);
    missing_.clear_word(group.block, group.word, placed);
    claimed_[group.block].clear(group.word, mine);
    meter_.placed(group.origin, count(placed) - existing);
    meter_.add(&FaultStats::duplicate_pages, count(group.present & ~wanted) + existing);
    answer_open(group.block, group.word, placed, group.zero);
    return status;
}

absl::Status FaultServer::fill_group(const Group& group, uint64_t wanted, uint64_t& placed,
                                     uint64_t& existing) {
    if (wanted == 0) return absl::OkStatus();
    const uint32_t view = view_for(group.block, group.word, wanted);
    const uint64_t filled = group.present & ~group.zero;
    absl::Status status;
    visit_runs(wanted, [&](uint32_t first, uint32_t pages) {
        const size_t before = count(filled & bit_run(0, first)) * kPageBytes;
        FillTotals totals;
        status = memory_.fill(group.block, group.word * 64 + first,
                              group.raw.subspan(before, pages * kPageBytes), view, totals);
        placed |= bit_run(first, totals.filled_pages + totals.existing_pages);
        existing += totals.existing_pages;
        return status.ok();
    });
    return status;
}

absl::Status FaultServer::place_huge(BlockIndex block, ChunkIndex chunk, const ChunkMask& present,
                                     const ChunkMask& zero, std::span<const std::byte> raw,
                                     PageOrigin origin) {
    const size_t word = chunk * kWordsPerChunk;
    // One thread at a time: it is claim and scratch in one.
    const std::lock_guard lock(huge_mutex_);
    if (missing_.chunk(block, chunk) == ChunkMask{}) {
        meter_.add(&FaultStats::duplicate_pages, count_pages(present));
        return absl::OkStatus();
    }
    if (count_pages(present) != kPagesPerChunk)
        return absl::InvalidArgumentError(
            fmt::format("{} pages for a huge page of RAM block {}: it can only come whole",
                        count_pages(present), memory_.blocks()[block].name));
    FillTotals totals;
    if (!raw.empty()) {
        if (raw.size() < kChunkBytes) raw = spread(zero, raw);
        const uint32_t view = view_for(block, word, 1);
        GODWIT_RETURN_IF_ERROR(memory_.fill(block, chunk * kPagesPerChunk, raw, view, totals));
    }
    missing_.clear(block, chunk, present);
    meter_.placed(origin, kPagesPerChunk - totals.existing_pages);
    meter_.add(&FaultStats::duplicate_pages, totals.existing_pages);
    answer_open(block, word, 1, raw.empty() ? 1 : 0);
    return absl::OkStatus();
}

std::span<const std::byte> FaultServer::spread(const ChunkMask& zero,
                                               std::span<const std::byte> raw) const {
    for (size_t page = 0; page < kPagesPerChunk; ++page) {
        std::byte* to = huge_scratch_.data() + page * kPageBytes;
        if ((zero[page / 64] >> (page % 64) & 1) != 0) {
            std::memset(to, 0, kPageBytes);
        } else {
            std::memcpy(to, raw.data(), kPageBytes);
            raw = raw.subspan(kPageBytes);
        }
    }
    return huge_scratch_.bytes();
}

uint32_t FaultServer::view_for(BlockIndex block, size_t word, uint64_t pages) {
    const uint64_t waited_for = open_[block].load(word) & pages;
    if (waited_for == 0) return last_view_;
    const std::lock_guard lock(table_mutex_);
    const OpenFault* fault =
        table_.find(block, word * 64 + static_cast<uint64_t>(std::countr_zero(waited_for)));
    return fault != nullptr ? fault->view : last_view_.load();
}

void FaultServer::answer_open(BlockIndex block, size_t word, uint64_t placed, uint64_t zero) {
    const uint64_t waited_for = open_[block].load(word) & placed;
    if (waited_for == 0) return;
    const uint64_t granule = memory_.granule_pages(block);
    visit_runs(waited_for & zero, [&](uint32_t first, uint32_t pages) {
        const PageRange range{word * 64 + first, word * 64 + first + pages * granule};
        FillTotals totals;
        const absl::Status status = memory_.fill_zero(block, range, last_view_, totals);
        if (status.ok()) return true;
        // The pages are no more missing: woken, the faults come again and are answered with zeros.
        if (absl::IsNotFound(status)) fail(status);
        meter_.add(&FaultStats::failed_fill_count);
        left_waiting_ = true;
        wakeup_.notify();
        return false;
    });
    close_faults(block, word, waited_for);
    // Given back by the guest and asked for again since it was filled: that fault is closed too.
    visit_runs(waited_for & ~zero, [&](uint32_t first, uint32_t pages) {
        const PageRange range{word * 64 + first, word * 64 + first + pages * granule};
        if (const absl::Status status = memory_.wake(block, range); !status.ok()) fail(status);
        return true;
    });
}

void FaultServer::close_faults(BlockIndex block, size_t word, uint64_t pages) {
    const uint64_t closed = open_[block].clear(word, pages) & pages;
    if (closed == 0) return;
    const MonotonicTime now = clock_.now();
    const std::lock_guard lock(table_mutex_);
    visit_runs(closed, [&](uint32_t first, uint32_t pages_in_run) {
        for (uint32_t page = first; page < first + pages_in_run; ++page) {
            const auto fault = table_.remove(block, word * 64 + page);
            if (fault) meter_.waited(now - fault->first_seen);
        }
        return true;
    });
    open_count_ = table_.size();
    if (table_.size() == 0) meter_.stall_ends(now);
    // Waking makes all others fault again too: not before there is room for many.
    if (table_.size() <= FaultTable::kLimit / 2 && left_waiting_) wakeup_.notify();
}

}  // namespace godwit
