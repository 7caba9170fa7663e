#include "engine/source/round_sender.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "engine/base/wait.h"
#include "transport/frame/bodies.h"

namespace godwit {
namespace {

// What is read at once and then looked at: within any second-level cache.
constexpr PageIndex kPagesAtOnce = 32;

}  // namespace

void RoundTotals::add(const RoundTotals& other) {
    zero_pages += other.zero_pages;
    unchanged_pages += other.unchanged_pages;
    lz4_pages += other.lz4_pages;
    zstd_pages += other.zstd_pages;
    raw_pages += other.raw_pages;
    delta_pages += other.delta_pages;
    zero_sent_pages += other.zero_sent_pages;
    raw_chunks += other.raw_chunks;
    lz4_chunks += other.lz4_chunks;
    zstd_chunks += other.zstd_chunks;
    samples += other.samples;
}

absl::StatusOr<std::unique_ptr<RoundSender>> RoundSender::create(std::span<const RamBlock> blocks,
                                                                 SourceStreams& streams,
                                                                 DirtyTracker& tracker,
                                                                 const Options& options) {
    GODWIT_ASSIGN_OR_RETURN(RamReader reader, RamReader::create(blocks));
    return std::unique_ptr<RoundSender>(
        new RoundSender(blocks, streams, tracker, options, std::move(reader)));
}

RoundSender::RoundSender(std::span<const RamBlock> blocks, SourceStreams& streams,
                         DirtyTracker& tracker, const Options& options, RamReader reader)
    : blocks_(blocks),
      streams_(streams),
      tracker_(tracker),
      options_(options),
      reader_(std::move(reader)),
      hashes_(blocks) {
    for (const RamBlock& block : blocks) {
        left_out_.emplace_back(block.page_count());
        sent_chunks_.emplace_back(block.chunk_count());
    }
    const size_t count = streams.data().size();
    results_.resize(count, absl::StatusOr<RoundTotals>(RoundTotals{}));
    shares_.resize(count);
    for (size_t i = 0; i < count; ++i) {
        shares_[i].index = i;
        shares_[i].stream = &streams.data()[i];
    }
    if (options.streams_are_settled) settle_streams();
    start_workers();
}

void RoundSender::settle_streams() {
    if (std::exchange(settled_, true)) return;
    const Bytes capacity = options_.delta_cache_bytes / streams_.in_use();
    if (!options_.page_hashes || capacity < kPageBytes) return;
    for (size_t i = 0; i < streams_.in_use(); ++i) {
        // Without memory for it everything works, with more bytes.
        auto cache = DeltaCache::create(capacity);
        if (cache.ok()) shares_[i].deltas = *std::move(cache);
    }
}

void RoundSender::start_workers() {
    while (workers_.size() < streams_.in_use()) {
        Share& share = shares_[workers_.size()];
        workers_.emplace_back([this, &share, seen = generation_](const std::stop_token& stop) {
            work(share, seen, stop);
        });
    }
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
    start_workers();
    running_ = streams_.in_use();
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
    for (const absl::StatusOr<RoundTotals>& result : std::span(results_).first(streams_.in_use())) {
        GODWIT_RETURN_IF_ERROR(result.status());
        totals.add(*result);
    }
    return totals;
}

void RoundSender::forget(const ChunkPages& pages) {
    if (!options_.page_hashes) return;
    hashes_.forget(pages.block, pages.chunk, pages.pages);
    Share& share = shares_[share_of(pages.block, pages.chunk)];
    if (!share.deltas) return;
    const PageIndex first = pages.chunk * kPagesPerChunk;
    for_each_run(pages.pages, [&](PageRange run) {
        share.deltas->forget(pages.block, {first + run.begin, first + run.end});
    });
}

void RoundSender::work(Share& share, uint64_t seen, const std::stop_token& stop) {
    set_thread_name(("send-" + std::to_string(share.index)).c_str());
    options_.placement.apply();
    const auto is_asked = [&] { return generation_ != seen && share.index < streams_.in_use(); };
    while (true) {
        {
            std::unique_lock lock(mutex_);
            if (!changed_.wait(lock, stop, is_asked)) return;
            seen = generation_;
        }
        absl::StatusOr<RoundTotals> result = send_share(share);
        if (!result.ok()) {
            result = annotate(result.status(), "Data stream " + std::to_string(share.index));
            // The round has failed: what the others have not read yet need not be.
            cut_ = true;
        }
        const std::lock_guard lock(mutex_);
        results_[share.index] = std::move(result);
        if (--running_ == 0) changed_.notify_all();
    }
}

absl::StatusOr<RoundTotals> RoundSender::send_share(Share& share) {
    share.totals = {};
    if (share.deltas) share.deltas->begin_round();
    PageSender& sender = *share.stream->sender;
    const PageSender::Totals pages_before = sender.totals();
    const CodecGovernor::Choices choices_before = sender.governor().choices();
    for (BlockIndex block = 0; block < blocks_.size(); ++block) {
        const PageBitmap& pages = (*set_)[block];
        for (PageIndex page = pages.next_set(0); page < pages.page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            if (share_of(block, chunk) == share.index)
                GODWIT_RETURN_IF_ERROR(
                    send_pages_of(share, block, chunk, chunk_mask(pages, chunk)));
            page = pages.next_set((chunk + 1) * kPagesPerChunk);
        }
    }
    GODWIT_RETURN_IF_ERROR(sender.flush());
    const FrameBytes marker = MarkerBody{.round = round_}.encode();
    GODWIT_RETURN_IF_ERROR(share.stream->writer->send(FrameKind::kMarker, marker));
    const CodecGovernor::Choices& choices = sender.governor().choices();
    share.totals.raw_pages = sender.totals().raw_pages - pages_before.raw_pages;
    share.totals.lz4_pages = sender.totals().lz4_pages - pages_before.lz4_pages;
    share.totals.zstd_pages = sender.totals().zstd_pages - pages_before.zstd_pages;
    share.totals.delta_pages = sender.totals().delta_pages - pages_before.delta_pages;
    share.totals.raw_chunks = choices.raw_chunks - choices_before.raw_chunks;
    share.totals.lz4_chunks = choices.lz4_chunks - choices_before.lz4_chunks;
    share.totals.zstd_chunks = choices.zstd_chunks - choices_before.zstd_chunks;
    share.totals.samples = choices.samples - choices_before.samples;
    return share.totals;
}

absl::Status RoundSender::send_pages_of(Share& share, BlockIndex block, ChunkIndex chunk,
                                        const ChunkMask& wanted) {
    if (kind_ == RoundKind::kPunches && !cut_)
        return send_punch(*share.stream->writer, block, chunk, wanted);
    return send_in_parts(share, block, chunk, wanted);
}

// Where the bandwidth is limited, a frame of a whole chunk may be more than a second has room for.
absl::Status RoundSender::send_in_parts(Share& share, BlockIndex block, ChunkIndex chunk,
                                        ChunkMask wanted) {
    while (count_pages(wanted) > 0) {
        if (cut_) {
            leave_out(block, chunk, wanted);
            break;
        }
        const ChunkMask part = take_pages(wanted, streams_.frame_bytes() / kPageBytes);
        GODWIT_RETURN_IF_ERROR(send_chunk(share, block, chunk, part));
    }
    return absl::OkStatus();
}

void RoundSender::leave_out(BlockIndex block, ChunkIndex chunk, const ChunkMask& wanted) {
    for (size_t i = 0; i < wanted.size(); ++i)
        if (wanted[i] != 0) left_out_[block].add_word(chunk * wanted.size() + i, wanted[i]);
}

absl::Status RoundSender::send_punch(FrameWriter& writer, BlockIndex block, ChunkIndex chunk,
                                     const ChunkMask& pages) {
    done_pages_ += count_pages(pages);
    const ChunkPages punch{.block = block, .chunk = chunk, .pages = pages};
    return writer.send(FrameKind::kPunch, encode_chunk_pages(std::span(&punch, 1)));
}

// One chunk on its way into a frame. Pages that are not sent leave no gap.
struct RoundSender::Gathering {
    PageSender::Chunk out;
    std::span<std::byte> area;
    PageHashTable::Chunk* known;  // null without page hashes
    size_t kept = 0;              // pages
};

bool RoundSender::is_kept(Share& share, Gathering& gathering, PageIndex page, const Hash128& hash) {
    Hash128 before;
    bool same = false;
    if (gathering.known != nullptr) {
        before = std::exchange((*gathering.known)[page], hash);
        same = before == hash;
    }
    const uint64_t bit = uint64_t{1} << (page % 64);
    if (hash == Hash128{}) {
        ++share.totals.zero_pages;
        // Without hashes nobody knows whether it ever was anything else; a bit says it either way.
        if (same) return false;
        ++share.totals.zero_sent_pages;
        gathering.out.zero[page / 64] |= bit;
        gathering.out.present[page / 64] |= bit;
        return false;
    }
    if (same) {
        ++share.totals.unchanged_pages;
        return false;
    }
    gathering.out.present[page / 64] |= bit;
    share.hashes[gathering.kept] = hash;
    share.hashes_before[gathering.kept] = before;
    share.pages[gathering.kept++] = static_cast<uint16_t>(page);
    return true;
}

// `run` is counted within the chunk.
absl::Status RoundSender::gather_run(Share& share, Gathering& gathering, PageRange run) {
    const PageSender::Chunk& out = gathering.out;
    const PageIndex first = out.chunk * kPagesPerChunk;
    const PageRange pages{first + run.begin, first + run.end};
    if (guest_ == GuestState::kRuns) GODWIT_RETURN_IF_ERROR(tracker_.rearm(out.block, pages));
    return reader_
        .read(out.block, pages, gathering.area.subspan(gathering.kept * kPageBytes),
              [&](PageIndex page, const Hash128& hash) {
                  return is_kept(share, gathering, page - first, hash);
              })
        .status();
}

absl::Status RoundSender::send_chunk(Share& share, BlockIndex block, ChunkIndex chunk,
                                     const ChunkMask& wanted) {
    PageSender& sender = *share.stream->sender;
    Gathering gathering{.out = {.block = block, .chunk = chunk},
                        .area = sender.gather(),
                        .known = options_.page_hashes ? &hashes_.chunk(block, chunk) : nullptr};
    const bool with_deltas = share.deltas && kind_ == RoundKind::kPages && sender.deltas_pay();
    absl::Status outcome;
    for_each_run(wanted, [&](PageRange run) {
        while (run.begin < run.end && outcome.ok()) {
            // Looked at while it is in the caches still.
            const PageIndex end = std::min(run.end, run.begin + kPagesAtOnce);
            const size_t kept_before = gathering.kept;
            outcome = gather_run(share, gathering, {run.begin, end});
            if (outcome.ok() && with_deltas) make_deltas(share, gathering, kept_before);
            run.begin = end;
        }
    });
    GODWIT_RETURN_IF_ERROR(annotate(outcome, "Cannot read guest memory"));
    done_pages_ += count_pages(wanted);
    if (count_pages(gathering.out.present) == 0) return absl::OkStatus();
    sent_chunks_[block][chunk] = 1;
    // A delta is hashed as it is sent.
    if (count_pages(gathering.out.delta) == 0)
        gathering.out.hashes = std::span(share.hashes).first(gathering.kept);
    return sender.send(gathering.out, streams_.stopping());
}

// Of the pages that were kept from number `begin` on.
void RoundSender::make_deltas(Share& share, Gathering& gathering, size_t begin) {
    PageSender::Chunk& out = gathering.out;
    for (size_t i = begin; i < gathering.kept; ++i) {
        const PageIndex page = share.pages[i];
        const auto content = gathering.area.subspan(i * kPageBytes).first<kPageBytes>();
        if (share.deltas->exchange(out.block, out.chunk * kPagesPerChunk + page,
                                   {.sent = share.hashes_before[i], .now = share.hashes[i]},
                                   content))
            out.delta[page / 64] |= uint64_t{1} << (page % 64);
    }
}

}  // namespace godwit
