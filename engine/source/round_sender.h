// RoundSender: reads the pages of a set, drops what the destination has already, sends the rest.
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "dirty-tracking/tracker/tracker.h"
#include "engine/base/page_bitmap.h"
#include "engine/base/ram_block.h"
#include "engine/base/ram_reader.h"
#include "engine/base/thread_placement.h"
#include "engine/source/page_hash_table.h"
#include "engine/source/streams.h"
#include "transport/codec/delta_cache.h"

namespace godwit {

struct RoundTotals {
    uint64_t zero_pages = 0;       // found zero (also those that the destination has as zero)
    uint64_t unchanged_pages = 0;  // same content as last sent
    uint64_t lz4_pages = 0;
    uint64_t zstd_pages = 0;
    uint64_t raw_pages = 0;
    uint64_t delta_pages = 0;  // sent as what changed in them
    uint64_t zero_sent_pages =
        0;  // of zero_pages: sent as a bit, because they were not zero before
    // Of the frames: how they were packed, and how many samples were taken to decide it.
    uint64_t raw_chunks = 0;
    uint64_t lz4_chunks = 0;
    uint64_t zstd_chunks = 0;
    uint64_t samples = 0;

    [[nodiscard]] uint64_t sent_pages() const {
        return lz4_pages + zstd_pages + raw_pages + delta_pages + zero_sent_pages;
    }
    void add(const RoundTotals& other);
};

// Whether the guest may write while a round is read.
enum class GuestState { kRuns, kFrozen };

// What is sent of a set: its pages; its pages, where others of their chunks were punched already
// (no deltas); or only that the destination must not use what it has of them.
enum class RoundKind { kPages, kPagesAmongPunched, kPunches };

// One worker thread per data stream in use. Within a round a chunk travels on one stream,
// `chunk % streams` (+ block). Between rounds it may change, with the number of streams in use: the
// destination has confirmed then what came on the old one, so no newer copy of a page is overtaken
// by an older one.
class RoundSender {
  public:
    struct Options {
        // 16 B per page of each chunk that was touched; without them a page that was written is
        // sent, whatever was written, and there are no deltas.
        bool page_hashes = true;
        Bytes delta_cache_bytes = 0;  // over all streams; 0: no deltas
        ThreadPlacement placement;    // of the workers
        // Whether the number of streams in use is the last; else settle_streams() must be called.
        bool streams_are_settled = true;
    };
    // All three must outlive it. Errors: RamReader's.
    static absl::StatusOr<std::unique_ptr<RoundSender>> create(std::span<const RamBlock> blocks,
                                                               SourceStreams& streams,
                                                               DirtyTracker& tracker,
                                                               const Options& options);
    // Ends the workers; the streams must be shut down first if a round may be under way.
    ~RoundSender();

    // The number of streams in use will not change any more: the delta cache is shared out among
    // them. Between rounds; more than once is no harm.
    void settle_streams();

    // Begins to send the pages of `set` (which must stay unchanged) followed by a marker of `round`
    // on every stream in use. One round at a time. While the guest runs each range is re-armed in
    // the tracker just before it is read; in the pause that would cost time for nothing.
    void begin(const PageSet& set, uint32_t round, GuestState guest,
               RoundKind kind = RoundKind::kPages);
    // Ends the round before its time: what is not being read yet is left out. Any thread.
    void cut_short() { cut_ = true; }
    // Whether the round that is over ended before its time.
    [[nodiscard]] bool was_cut() const { return cut_; }
    // After finish(): the pages of the set that were left out; empty where none were.
    [[nodiscard]] const PageSet& left_out() const { return left_out_; }
    // Whether any page of the chunk was ever sent, so that the destination may hold something.
    [[nodiscard]] bool was_sent(BlockIndex block, ChunkIndex chunk) const {
        return sent_chunks_[block][chunk] != 0;
    }
    // The destination does not hold what was sent of these pages: when they are sent again, it is
    // in full. Between rounds.
    void forget(const ChunkPages& pages);
    // What the destination holds, by hash; empty without page hashes.
    [[nodiscard]] const PageHashTable& hashes() const { return hashes_; }
    // Pages looked at so far in this round.
    [[nodiscard]] uint64_t done_pages() const { return done_pages_; }
    // Waits until the workers are done or `deadline`; true when they are.
    bool wait(MonotonicTime deadline);
    // After wait() said true. Errors: of the first stream that failed, with its number; the others
    // have ended the round before its time then.
    absl::StatusOr<RoundTotals> finish();

  private:
    // What belongs to one stream, and so to one worker.
    struct Share {
        size_t index = 0;
        SourceStreams::DataStream* stream = nullptr;
        std::optional<DeltaCache> deltas;
        RoundTotals totals;  // of this round
        // Of each page in the payload of the chunk that is gathered.
        std::array<Hash128, kPagesPerChunk> hashes;
        std::array<Hash128, kPagesPerChunk> hashes_before;
        std::array<uint16_t, kPagesPerChunk> pages;  // within the chunk
    };
    RoundSender(std::span<const RamBlock> blocks, SourceStreams& streams, DirtyTracker& tracker,
                const Options& options, RamReader reader);
    void start_workers();
    void work(Share& share, uint64_t seen, const std::stop_token& stop);
    absl::StatusOr<RoundTotals> send_share(Share& share);
    absl::Status send_pages_of(Share& share, BlockIndex block, ChunkIndex chunk,
                               const ChunkMask& wanted);
    absl::Status send_in_parts(Share& share, BlockIndex block, ChunkIndex chunk, ChunkMask wanted);
    void leave_out(BlockIndex block, ChunkIndex chunk, const ChunkMask& wanted);
    absl::Status send_punch(FrameWriter& writer, BlockIndex block, ChunkIndex chunk,
                            const ChunkMask& pages);
    absl::Status send_chunk(Share& share, BlockIndex block, ChunkIndex chunk,
                            const ChunkMask& wanted);
    [[nodiscard]] size_t share_of(BlockIndex block, ChunkIndex chunk) const {
        return (chunk + block) % streams_.in_use();
    }
    struct Gathering;
    absl::Status gather_run(Share& share, Gathering& gathering, PageRange run);
    static void make_deltas(Share& share, Gathering& gathering, size_t begin);
    [[nodiscard]] static bool is_kept(Share& share, Gathering& gathering, PageIndex page,
                                      const Hash128& hash);

    std::span<const RamBlock> blocks_;
    SourceStreams& streams_;
    DirtyTracker& tracker_;
    const Options options_;
    RamReader reader_;
    PageHashTable hashes_;
    std::vector<std::vector<uint8_t>> sent_chunks_;  // bytes: each is its own worker's
    std::atomic<uint64_t> done_pages_{0};
    std::atomic<bool> cut_{false};
    PageSet left_out_;  // each chunk's words are its own worker's

    std::mutex mutex_;
    std::condition_variable_any changed_;
    // Guarded by mutex_ while no round runs; constant in a round:
    const PageSet* set_ = nullptr;
    uint32_t round_ = 0;
    GuestState guest_ = GuestState::kRuns;
    RoundKind kind_ = RoundKind::kPages;
    uint64_t generation_ = 0;  // counts rounds, so that workers see a new one
    size_t running_ = 0;
    std::vector<absl::StatusOr<RoundTotals>> results_;

    std::vector<Share> shares_;
    bool settled_ = false;
    std::vector<std::jthread> workers_;  // of the first shares: those that were ever in use
};

}  // namespace godwit
