#include "engine/source/round_sender.h"

#include <algorithm>
#include <cstring>

#include "engine/base/wait.h"
#include "transport/frame/bodies.h"

namespace godwit {

void RoundTotals::add(const RoundTotals& other) {
    zero_pages += other.zero_pages;
    unchanged_pages += other.unchanged_pages;
    lz4_pages += other.lz4_pages;
    raw_pages += other.raw_pages;
    zero_sent_pages += other.zero_sent_pages;
}

RoundSender::RoundSender(std::span<const RamBlock> blocks, SourceStreams& streams,
                         DirtyTracker& tracker)
    : blocks_(blocks), streams_(streams), tracker_(tracker), hashes_(blocks) {
    for (const RamBlock& block : blocks) left_out_.emplace_back(block.page_count());
    results_.resize(streams.data().size(), absl::StatusOr<RoundTotals>(RoundTotals{}));
    for (size_t i = 0; i < streams.data().size(); ++i)
        workers_.emplace_back([this, i](const std::stop_token& stop) { work(i, stop); });
}

RoundSender::~RoundSender() {
    for (std::jthread& worker : workers_) worker.request_stop();
    changed_.notify_all();
}

void RoundSender::begin(const PageSet& set, uint32_t round, GuestState guest, RoundKind kind) {
    streams_.expect_acks_up_to(round);
    const std::lock_guard lock(mutex_);
    set_ = &set;
    round_ = round;
    guest_ = guest;
    kind_ = kind;
    if (cut_.exchange(false)) clear_pages(left_out_);
    done_pages_ = 0;
    running_ = workers_.size();
    ++generation_;
    changed_.notify_all();
}

bool RoundSender::wait(MonotonicTime deadline) {
    std::unique_lock lock(mutex_);
    return changed_.wait_until(lock, deadline, [this] { return running_ == 0; });
}

absl::StatusOr<RoundTotals> RoundSender::finish() {
    const std::lock_guard lock(mutex_);
    RoundTotals totals;
    for (const absl::StatusOr<RoundTotals>& result : results_) {
        GODWIT_RETURN_IF_ERROR(result.status());
        totals.add(*result);
    }
    return totals;
}

void RoundSender::work(size_t stream_index, const std::stop_token& stop) {
    set_thread_name(("send-" + std::to_string(stream_index)).c_str());
    uint64_t seen = 0;
    while (true) {
        {
            std::unique_lock lock(mutex_);
            if (!changed_.wait(lock, stop, [&] { return generation_ != seen; })) return;
            seen = generation_;
        }
        absl::StatusOr<RoundTotals> result = send_share(stream_index);
        const std::lock_guard lock(mutex_);
        results_[stream_index] = std::move(result);
        if (--running_ == 0) changed_.notify_all();
    }
}

absl::StatusOr<RoundTotals> RoundSender::send_share(size_t stream_index) {
    SourceStreams::DataStream& stream = streams_.data()[stream_index];
    const size_t stream_count = streams_.data().size();
    RoundTotals totals;
    for (BlockIndex block = 0; block < blocks_.size(); ++block) {
        const PageBitmap& pages = (*set_)[block];
        for (PageIndex page = pages.next_set(0); page < pages.page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            if ((chunk + block) % stream_count == stream_index) {
                const ChunkMask wanted = chunk_mask(pages, chunk);
                if (cut_)
                    leave_out(block, chunk, wanted);
                else
                    GODWIT_RETURN_IF_ERROR(
                        kind_ == RoundKind::kPunches
                            ? send_punch(*stream.writer, block, chunk, wanted)
                            : send_chunk(*stream.sender, block, chunk, wanted, totals));
            }
            page = pages.next_set((chunk + 1) * kPagesPerChunk);
        }
    }
    GODWIT_RETURN_IF_ERROR(stream.sender->flush());
    const FrameBytes marker = MarkerBody{.round = round_}.encode();
    GODWIT_RETURN_IF_ERROR(stream.writer->send(FrameKind::kMarker, marker));
    return totals;
}

void RoundSender::leave_out(BlockIndex block, ChunkIndex chunk, const ChunkMask& wanted) {
    const auto words = left_out_[block].words().subspan(chunk * wanted.size(), wanted.size());
    std::copy(wanted.begin(), wanted.end(), words.begin());
}

absl::Status RoundSender::send_punch(FrameWriter& writer, BlockIndex block, ChunkIndex chunk,
                                     const ChunkMask& pages) {
    done_pages_ += count_pages(pages);
    const ChunkPages punch{.block = block, .chunk = chunk, .pages = pages};
    return writer.send(FrameKind::kPunch, encode_chunk_pages(std::span(&punch, 1)));
}

absl::Status RoundSender::send_chunk(PageSender& sender, BlockIndex block, ChunkIndex chunk,
                                     const ChunkMask& wanted, RoundTotals& totals) {
    const std::span<std::byte> area = sender.gather();
    PageHashTable::Chunk& known = hashes_.chunk(block, chunk);
    PageSender::Chunk out{.block = block, .chunk = chunk};
    size_t kept_bytes = 0;
    std::array<Hash128, kPagesPerChunk> kept_hashes;
    uint64_t looked_at = 0;
    absl::Status outcome;
    // Each run is read right behind what is kept so far; pages that stay move down over those that
    // were dropped. In round 0 nothing moves: one copy from the guest to the wire's buffer.
    for_each_run(wanted, [&](PageRange run) {
        if (!outcome.ok()) return;
        const PageIndex first = chunk * kPagesPerChunk;
        if (guest_ == GuestState::kRuns)
            outcome = tracker_.rearm(block, {first + run.begin, first + run.end});
        if (!outcome.ok()) return;
        std::byte* read = area.data() + kept_bytes;
        outcome = read_fully(blocks_[block].file.get(), read, run.count() * kPageBytes,
                             chunk * kChunkBytes + run.begin * kPageBytes);
        if (!outcome.ok()) return;
        for (PageIndex page = run.begin; page < run.end; ++page, read += kPageBytes) {
            const std::span<const std::byte> content(read, kPageBytes);
            const Hash128 hash = is_zero(content) ? Hash128{} : hash_bytes(content);
            const uint64_t bit = uint64_t{1} << (page % 64);
            const bool same = known[page] == hash;
            known[page] = hash;
            if (hash == Hash128{}) {
                ++totals.zero_pages;
                if (same) continue;
                ++totals.zero_sent_pages;
                out.zero[page / 64] |= bit;
            } else if (same) {
                ++totals.unchanged_pages;
                continue;
            } else {
                if (area.data() + kept_bytes != read)
                    std::memmove(area.data() + kept_bytes, read, kPageBytes);
                kept_hashes[kept_bytes / kPageBytes] = hash;
                kept_bytes += kPageBytes;
            }
            out.present[page / 64] |= bit;
        }
        looked_at += run.count();
    });
    GODWIT_RETURN_IF_ERROR(annotate(outcome, "Cannot read guest memory"));
    done_pages_ += looked_at;
    if (count_pages(out.present) == 0) return absl::OkStatus();
    out.hashes = std::span(kept_hashes).first(kept_bytes / kPageBytes);
    const PageSender::Totals before = sender.totals();
    GODWIT_RETURN_IF_ERROR(sender.send(out));
    const bool compressed = sender.totals().payload_bytes - before.payload_bytes < kept_bytes;
    (compressed ? totals.lz4_pages : totals.raw_pages) += kept_bytes / kPageBytes;
    return absl::OkStatus();
}

}  // namespace godwit
