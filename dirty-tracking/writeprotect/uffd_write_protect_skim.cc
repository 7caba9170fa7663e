// Skimming: chunks of a view that nobody has written through yet are not armed. See the header.
#include <algorithm>

#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "dirty-tracking/writeprotect/write_protect_pieces.h"

namespace godwit {

absl::Status UffdWriteProtectTracker::begin_skimming() {
    bool any = false;
    for (TrackedBlock& block : blocks_) any |= block.skimmed = block.may_skim;
    if (!any) return absl::OkStatus();
    if (!options_.huge_page_events) {
        auto events = HugePageEvents::open();
        // Without the counters nobody would tell what was lost: arm everything.
        if (!events.ok()) {
            for (TrackedBlock& block : blocks_) block.skimmed = false;
            return absl::OkStatus();
        }
        options_.huge_page_events = [counters = std::make_shared<HugePageEvents>(
                                         *std::move(events))] { return counters->count(); };
    }
    GODWIT_ASSIGN_OR_RETURN(huge_page_events_, options_.huge_page_events());
    for (TrackedBlock& block : blocks_) {
        if (!block.skimmed || block.witnesses.empty() || block.backing != Backing::kTmpfsHuge)
            continue;
        GODWIT_ASSIGN_OR_RETURN(const bool few, has_few_witnesses(block));
        if (few) block.skimmed = false;
    }
    for (TrackedBlock& block : blocks_)
        if (block.skimmed) GODWIT_RETURN_IF_ERROR(skim(block, [](PageRange) {}));
    return absl::OkStatus();
}

bool UffdWriteProtectTracker::skims() const {
    return std::all_of(blocks_.begin(), blocks_.end(),
                       [](const TrackedBlock& block) { return block.skimmed || !block.may_skim; });
}

// After the scan, so that a split that it ran into is likely to be counted by now.
absl::Status UffdWriteProtectTracker::check_huge_pages(PageSet& dirty, PageSet& unsettled) {
    const auto is_exposed = [](const TrackedBlock& block) {
        if (!block.skimmed || block.backing == Backing::kHugetlb2M) return false;
        return block.backing == Backing::kTmpfsHuge || block.witnesses.empty();
    };
    if (std::none_of(blocks_.begin(), blocks_.end(), is_exposed)) return absl::OkStatus();
    const auto events = options_.huge_page_events();
    if (events.ok() && *events == huge_page_events_) return absl::OkStatus();
    absl::Status first;
    for (size_t i = 0; i < blocks_.size(); ++i) {
        if (!is_exposed(blocks_[i])) continue;
        const Found found{dirty[i], unsettled[i]};
        // Also what was lost between the scan and the arming of chunks in this collect().
        blocks_[i].touched.for_each_run(
            [&found](PageRange chunks) { found.add(pages_of_chunks(chunks)); });
        if (blocks_[i].witnesses.empty()) {
            blocks_[i].skimmed = false;
            first.Update(arm_new_data(blocks_[i], &found));
        } else {
            first.Update(suspect_chunks(blocks_[i], found));
        }
    }
    if (first.ok() && events.ok()) huge_page_events_ = *events;
    return first;
}

void UffdWriteProtectTracker::find_suspects(TrackedBlock& block) {
    PageBitmap& suspected = block.touched;
    suspected.clear_all();
    suspected.set_range({0, suspected.page_count()});
    suspected.remove(block.armed);
    const auto clear = [&](const RamMapping& witness, AddressRange huge) {
        const PageRange pages = pages_of(witness, huge);
        const ChunkIndex begin = (pages.begin + kPagesPerChunk - 1) / kPagesPerChunk;
        const ChunkIndex end = pages.end / kPagesPerChunk;
        if (begin < end) suspected.clear_range({begin, end});
    };
    for (const RamMapping& witness : block.witnesses) {
        AddressRange rest{witness.address, witness.address + witness.length};
        for (; rest.begin < rest.end; rest.begin = first_piece(rest, kScanBytes).end)
            // An error leaves more of them suspected.
            pagemap_
                .find_huge(first_piece(rest, kScanBytes),
                           [&](AddressRange huge) { clear(witness, huge); })
                .IgnoreError();
    }
}

absl::StatusOr<bool> UffdWriteProtectTracker::has_few_witnesses(TrackedBlock& block) {
    // An eighth of the data, checked but mostly not sent, is bearable.
    constexpr uint64_t kBearable = 8;
    find_suspects(block);
    uint64_t data_chunks = 0;
    uint64_t suspects = 0;
    const ChunkIndex chunk_count = block.touched.page_count();
    for (ChunkIndex at = 0; at < chunk_count; ++at) {
        GODWIT_ASSIGN_OR_RETURN(at, next_chunk_with_data(block, at));
        if (at == chunk_count) break;
        ++data_chunks;
        if (block.touched.test(at)) ++suspects;
    }
    return suspects * kBearable > data_chunks;
}

// Reports and arms the suspects that hold data.
absl::Status UffdWriteProtectTracker::suspect_chunks(TrackedBlock& block, const Found& found) {
    find_suspects(block);
    const PageBitmap& suspected = block.touched;
    const ChunkIndex chunk_count = suspected.page_count();
    for (ChunkIndex at = suspected.next_set(0); at < chunk_count; at = suspected.next_set(at + 1)) {
        const absl::StatusOr<ChunkIndex> chunk = next_chunk_with_data(block, at);
        absl::Status status = chunk.status();
        if (status.ok() && *chunk == chunk_count) break;
        if (status.ok() && !suspected.test(at = *chunk)) continue;
        if (status.ok()) status = arm_chunks(block, {at, at + 1});
        if (!status.ok()) {
            found.add_all();
            return status;
        }
        found.add(pages_of_chunks({at, at + 1}));
    }
    return absl::OkStatus();
}

absl::Status UffdWriteProtectTracker::skim_block(TrackedBlock& block, const Found& found) {
    block.touched.clear_all();
    absl::Status status = skim(block, [&](PageRange pages) {
        found.add(pages);
        block.touched.set_range(
            {pages.begin / kPagesPerChunk, (pages.end + kPagesPerChunk - 1) / kPagesPerChunk});
    });
    // A huge page of hugetlb is exact to itself in any case.
    if (block.backing != Backing::kHugetlb2M) status.Update(arm_touched(block, found));
    return status;
}

absl::Status UffdWriteProtectTracker::skim(TrackedBlock& block,
                                           const std::function<void(PageRange)>& visit) {
    absl::Status first;
    const auto skim_piece = [&](const RamMapping& mapping, AddressRange piece) {
        const absl::Status status = pagemap_.take_written_mapped(
            piece, [&](AddressRange written) { visit(pages_of(mapping, written)); });
        if (status.ok()) return;
        visit(pages_of(mapping, piece));
        if (!absl::IsUnavailable(status)) first.Update(status);
    };
    const ChunkIndex chunk_count = block.armed.page_count();
    for (ChunkIndex at = block.armed.next_clear(0); at < chunk_count;) {
        const ChunkIndex end = block.armed.next_set(at);
        for (const RamMapping& mapping : block.mappings) {
            AddressRange rest = view_of(mapping, at * kChunkBytes, end * kChunkBytes);
            for (; rest.begin < rest.end; rest.begin = first_piece(rest, kSkimBytes).end)
                skim_piece(mapping, first_piece(rest, kSkimBytes));
        }
        at = block.armed.next_clear(end);
    }
    return first;
}

// Arming takes no notice of what was written since the scan: that is in the file by now, and its
// pages are reported because they are mapped. Arming takes a mapping of 2 MiB apart and with
// it what was mapped: such chunks are reported whole.
absl::Status UffdWriteProtectTracker::arm_touched(TrackedBlock& block, const Found& found) {
    const ChunkIndex chunk_count = block.touched.page_count();
    for (ChunkIndex at = block.touched.next_set(0); at < chunk_count;) {
        const PageRange run{at, block.touched.next_clear(at)};
        absl::Status status = arm_chunks(block, run);
        if (block.backing == Backing::kTmpfsHuge) {
            found.add(pages_of_chunks(run));
        } else {
            for (const RamMapping& mapping : block.mappings) {
                const AddressRange view =
                    view_of(mapping, run.begin * kChunkBytes, run.end * kChunkBytes);
                status.Update(pagemap_.find_mapped(
                    view, [&](AddressRange mapped) { found.add(pages_of(mapping, mapped)); }));
            }
        }
        if (!status.ok()) {
            found.add_all();  // armed in part: nobody knows which pages
            return status;
        }
        at = block.touched.next_set(run.end);
    }
    return absl::OkStatus();
}

}  // namespace godwit
