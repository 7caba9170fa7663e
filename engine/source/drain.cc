#include "engine/source/drain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "engine/base/hash.h"
#include "engine/base/wait.h"
#include "transport/frame/pages_body.h"

namespace godwit {
namespace {

using Mind = SourceSignals::Mind;
using Seen = SourceSignals::Seen;

// A frame of the push: a fault behind it waits for no more than this on the way.
constexpr uint64_t kPushPages = 32;
constexpr Duration kProgressPeriod = std::chrono::milliseconds(100);
// The destination checks what has come after the last marker, and says so.
constexpr Duration kConfirmLimit = std::chrono::seconds(60);

}  // namespace

Drain::Drain(Plan plan)
    : plan_(std::move(plan)),
      peer_(plan_.destination),
      pending_(plan_.blocks),
      interrupted_now_(plan_.has_left) {
    if (plan_.limiter != nullptr) limit_ = plan_.limiter->rate();
    for (const RamBlock& block : plan_.blocks) {
        to_push_.emplace_back(block.page_count());
        recent_.emplace_back(block.page_count());
    }
}

absl::StatusOr<std::unique_ptr<Drain>> Drain::create(Plan plan) {
    std::unique_ptr<Drain> drain(new Drain(std::move(plan)));
    GODWIT_ASSIGN_OR_RETURN(drain->answer_, Mapping::anonymous(kMaxPagesBodyBytes));
    // First touched here, and not when somebody waits.
    std::memset(drain->answer_.data(), 0, drain->answer_.size());
    GODWIT_ASSIGN_OR_RETURN(drain->server_,
                            PageServer::create(drain->plan_.blocks, drain->pending_, *drain));
    return drain;
}

Drain::~Drain() {
    if (own_streams_) own_streams_->close();
}

void Drain::set_missing(const PageSet& missing, const PageSet& recent) {
    missing_pages_ = count_pages(missing);
    missing_there_ = missing_pages_;
    to_push_ = missing;
    recent_ = recent;
    for (BlockIndex block = 0; block < missing.size(); ++block)
        for (PageIndex page = missing[block].next_set(0); page < missing[block].page_count();) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            pending_.add(block, chunk, chunk_mask(missing[block], chunk));
            page = missing[block].next_set((chunk + 1) * kPagesPerChunk);
        }
}

void Drain::serve(SourceStreams& streams) {
    streams_ = &streams;
    streams.serve(*this);
}

// --- faults ---------------------------------------------------------------------------------

absl::Status Drain::page_requested(BlockIndex block, PageIndex page) {
    ++answering_;
    const absl::Status status = server_->answer(block, page);
    --answering_;
    return status;
}

absl::Status Drain::send(const PageAnswer& answer) {
    PagesBody body{.block = answer.block,
                   .chunk = answer.chunk,
                   .present = answer.present,
                   .zero = answer.zero,
                   .raw_bytes = static_cast<uint32_t>(answer.bytes.size())};
    const auto bytes = answer_.bytes().first(kPagesHeadBytes + answer.bytes.size());
    encode_pages_head(body, bytes.first<kPagesHeadBytes>());
    std::copy(answer.bytes.begin(), answer.bytes.end(), bytes.begin() + kPagesHeadBytes);
    // What a fault takes is missing to the push, which waits for it.
    streams_->charge(bytes.size());
    return streams_->urgent().send(
        answer.origin == PageOrigin::kDemand ? FrameKind::kFaultPages : FrameKind::kPrepagedPages,
        bytes);
}

void Drain::pages_missing(const std::vector<ChunkPages>& list) {
    for (const ChunkPages& entry : list) {
        pending_.add(entry.block, entry.chunk, entry.pages);
        for (size_t i = 0; i < entry.pages.size(); ++i)
            if (entry.pages[i] != 0)
                to_push_[entry.block].add_word(entry.chunk * entry.pages.size() + i,
                                               entry.pages[i]);
    }
}

// --- push -----------------------------------------------------------------------------------

absl::Status Drain::push_pages(PageSender& sender, const ChunkPlace& place, const ChunkMask& wanted,
                               const std::stop_token& stop) {
    PageSender::Chunk out{.block = place.block, .chunk = place.chunk, .present = wanted};
    std::byte* kept = sender.gather().data();
    const int file = plan_.blocks[place.block].file.get();
    absl::Status outcome;
    for_each_run(wanted, [&](PageRange run) {
        if (!outcome.ok()) return;
        std::byte* read = kept;
        outcome = read_fully(file, read, run.count() * kPageBytes,
                             place.chunk * kChunkBytes + run.begin * kPageBytes);
        for (PageIndex page = run.begin; outcome.ok() && page < run.end;
             ++page, read += kPageBytes) {
            if (is_zero(std::span<const std::byte>(read, kPageBytes))) {
                out.zero[page / 64] |= uint64_t{1} << (page % 64);
                continue;
            }
            if (kept != read) std::memmove(kept, read, kPageBytes);
            kept += kPageBytes;
        }
    });
    GODWIT_RETURN_IF_ERROR(annotate(outcome, "Cannot read guest memory"));
    return sender.send(out, stop);
}

// Pending pages of the chunk from `page` on, at most `max` of them; moves `page` behind them.
ChunkMask Drain::take_pages(const ChunkPlace& place, PageIndex& page, uint64_t max) {
    ChunkMask taken{};
    const PageIndex first = place.chunk * kPagesPerChunk;
    uint64_t count = 0;
    while (page < first + kPagesPerChunk && count < max) {
        const PageRange run = pending_.take_run(place.block, page, max - count);
        for (PageIndex i = run.begin; i < run.end; ++i)
            taken[(i - first) / 64] |= uint64_t{1} << (i % 64);
        count += run.count();
        page = run.count() > 0 ? run.end : page + 1;
    }
    return taken;
}

absl::Status Drain::push_chunk(PageSender& sender, const ChunkPlace& place,
                               const std::stop_token& stop) {
    // Huge pages can only be put in place whole.
    const bool whole = plan_.blocks[place.block].backing == Backing::kHugetlb2M;
    PageIndex page = place.chunk * kPagesPerChunk;
    const PageIndex end = page + kPagesPerChunk;
    while (page < end) {
        if (stop.stop_requested()) return absl::CancelledError("the drain ends");
        yield_to_faults();
        const uint64_t most = std::min(kPushPages, streams_->frame_bytes() / kPageBytes);
        const ChunkMask wanted =
            whole ? pending_.take_chunk(place.block, place.chunk) : take_pages(place, page, most);
        if (count_pages(wanted) > 0)
            GODWIT_RETURN_IF_ERROR(push_pages(sender, place, wanted, stop));
        if (whole) break;
    }
    return absl::OkStatus();
}

absl::Status Drain::push_share(SourceStreams& streams, size_t index,
                               std::span<const ChunkPlace> share, const std::stop_token& stop) {
    SourceStreams::DataStream& stream = streams.data()[index];
    for (const ChunkPlace& place : share)
        GODWIT_RETURN_IF_ERROR(push_chunk(*stream.sender, place, stop));
    GODWIT_RETURN_IF_ERROR(stream.sender->flush());
    return stream.writer->send(FrameKind::kMarker, MarkerBody{}.encode());
}

// While a fault is answered the push holds its next frame back.
void Drain::yield_to_faults() const {
    for (int spins = 0; answering_ > 0 && spins < 64; ++spins) std::this_thread::yield();
}

void Drain::report_progress() {
    v1::Progress progress;
    progress.set_total_pages(missing_pages_);
    progress.set_done_pages(missing_pages_ - std::min(missing_pages_, pending_.count()));
    progress.set_elapsed_ms(to_ms(Clock::system().now() - started_at_));
    plan_.log->progress(progress, "drain");
}

// For a restarted agent, which goes on with it.
void Drain::note_limit() {
    if (plan_.limiter == nullptr) return;
    const Bytes now = plan_.limiter->rate();
    if (std::exchange(limit_, now) != now && plan_.on_limit) plan_.on_limit(now);
}

Drain::Step Drain::push(Connection connection, const std::stop_token& stop, Outcome& outcome) {
    SourceStreams& streams = *connection.streams;
    SourceSignals& signals = *connection.signals;
    const uint64_t lists = signals.seen().missing_lists;
    const PushOrder order(to_push_, recent_, streams.in_use());
    clear_pages(to_push_);  // a list that comes later says what is missing then
    std::atomic<size_t> running{streams.data().size()};
    std::vector<std::jthread> workers;
    for (size_t i = 0; i < streams.data().size(); ++i)
        workers.emplace_back([&, i](const std::stop_token& ending) {
            set_thread_name(fmt::format("push-{}", i).c_str());
            plan_.placement.apply();
            // Those without a share have a marker to send.
            const auto share =
                i < streams.in_use() ? order.share(i) : std::span<const ChunkPlace>();
            const absl::Status status =
                annotate(push_share(streams, i, share, ending), fmt::format("Data stream {}", i));
            --running;
            signals.update([&](Seen& seen) {
                if (!status.ok() && seen.connection.ok()) seen.connection = status;
            });
        });
    const auto over = [&](const Seen& seen) {
        return seen.drained || seen.gone_there || seen.missing_lists > lists ||
               stop.stop_requested();
    };
    bool marked = false;
    MonotonicTime deadline = MonotonicTime::max();
    absl::StatusOr<Seen> seen;
    while (true) {
        seen =
            signals.wait("the drain", Mind::kPeerOnly,
                         std::min(deadline, Clock::system().now() + kProgressPeriod),
                         [&](const Seen& now) { return over(now) || (!marked && running == 0); });
        report_progress();
        note_limit();
        if (seen.ok() && !over(*seen) && !marked) {
            // Behind every page that went with a fault.
            marked = true;
            deadline = Clock::system().now() + kConfirmLimit;
            if (streams.urgent().send(FrameKind::kMarker, MarkerBody{}.encode()).ok()) continue;
            seen = absl::UnavailableError("The connection to the destination was lost");
        }
        if (absl::IsDeadlineExceeded(seen.status()) && Clock::system().now() < deadline) continue;
        break;
    }
    if (!seen.ok() || stop.stop_requested()) streams.shutdown();  // unblocks the workers
    for (std::jthread& worker : workers) worker.request_stop();
    workers.clear();
    if (!seen.ok()) {
        outcome.detail = std::string(seen.status().message());
        return Step::kLost;
    }
    if (seen->drained) {
        outcome.postcopy = *seen->drained;
        return Step::kDrained;
    }
    if (seen->gone_there) {
        outcome.detail = *seen->gone_there;
        return Step::kGuestGone;
    }
    return stop.stop_requested() ? Step::kStopped : Step::kDone;
}

}  // namespace godwit
