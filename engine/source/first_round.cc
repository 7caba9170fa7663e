#include "engine/source/first_round.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/source/auto_streams.h"
#include "engine/source/live_rounds.h"

namespace godwit {
namespace {

// Moves whole chunks with together at least `most` pages, or all there are, out of `from`.
PageSet take_slice(PageSet& from, uint64_t most) {
    PageSet slice;
    uint64_t taken = 0;
    for (PageBitmap& pages : from) {
        PageBitmap& part = slice.emplace_back(pages.page_count());
        for (PageIndex page = pages.next_set(0); page < pages.page_count() && taken < most;) {
            const ChunkIndex chunk = page / kPagesPerChunk;
            const ChunkMask mask = chunk_mask(pages, chunk);
            taken += count_pages(mask);
            const PageIndex first = chunk * kPagesPerChunk;
            for (size_t i = 0; i < mask.size(); ++i)
                if (mask[i] != 0) part.add_word(chunk * mask.size() + i, mask[i]);
            pages.clear_range({first, std::min(first + kPagesPerChunk, pages.page_count())});
            page = pages.next_set((chunk + 1) * kPagesPerChunk);
        }
    }
    return slice;
}

void add_counts(const v1::Round& part, v1::Round& round) {
    const auto add = [](const auto& from, auto& to) {
        to.set_zero(to.zero() + from.zero());
        to.set_unchanged(to.unchanged() + from.unchanged());
        to.set_lz4(to.lz4() + from.lz4());
        to.set_zstd(to.zstd() + from.zstd());
        to.set_raw(to.raw() + from.raw());
        to.set_delta(to.delta() + from.delta());
    };
    add(part.pages(), *round.mutable_pages());
    v1::CodecCounts& codec = *round.mutable_codec();
    codec.set_raw_chunks(codec.raw_chunks() + part.codec().raw_chunks());
    codec.set_lz4_chunks(codec.lz4_chunks() + part.codec().lz4_chunks());
    codec.set_zstd_chunks(codec.zstd_chunks() + part.codec().zstd_chunks());
    codec.set_samples(codec.samples() + part.codec().samples());
}

void add_slice(const v1::Round& part, v1::Round& round) {
    round.set_dirty_pages(round.dirty_pages() + part.dirty_pages());
    round.set_sent_pages(round.sent_pages() + part.sent_pages());
    round.set_sent_bytes(round.sent_bytes() + part.sent_bytes());
    round.set_duration_ms(round.duration_ms() + part.duration_ms());
    const double seconds = std::max(round.duration_ms() / 1e3, 1e-6);
    round.set_rate_bytes_per_s(static_cast<double>(round.dirty_pages() * kPageBytes) / seconds);
    round.set_wire_bytes_per_s(static_cast<double>(round.sent_bytes()) / seconds);
    add_counts(part, round);
}

// Sent, and not zero.
uint64_t content_pages(const v1::PageCounts& pages) {
    return pages.raw() + pages.lz4() + pages.zstd() + pages.delta();
}

void report_slice(const v1::Round& part, size_t streams, v1::MigrationReport& report) {
    v1::StreamSlice& slice = *report.add_stream_slices();
    slice.set_streams(static_cast<uint32_t>(streams));
    slice.set_pages(part.dirty_pages());
    slice.set_duration_ms(part.duration_ms());
    const uint64_t content = content_pages(part.pages());
    slice.set_content_bytes_per_s(static_cast<double>(content * kPageBytes) /
                                  std::max(part.duration_ms() / 1e3, 1e-6));
}

AutoStreams::Slice measured(const v1::Round& part) {
    return {.pages = part.dirty_pages(),
            .content_pages = content_pages(part.pages()),
            .duration = Duration(static_cast<int64_t>(part.duration_ms() * 1e6))};
}

// From here on as many streams as help.
void settle(SourceContext& context, const AutoStreams& streams) {
    context.streams->use(streams.streams());
    context.sender->settle_streams();
    context.report.set_streams(static_cast<uint32_t>(streams.streams()));
    if (context.report.stream_slices_size() == 0) return;
    const v1::StreamSlice& last = *context.report.stream_slices().rbegin();
    context.log.message(
        "rounds",
        fmt::format("{} of {} data streams are used; the last slice brought {}/s with {}",
                    streams.streams(), context.streams->data().size(),
                    format_bytes(static_cast<Bytes>(last.content_bytes_per_s())), last.streams()));
}

}  // namespace

absl::StatusOr<PageSet> send_first_round(SourceContext& context, const PageSet& set,
                                         v1::Round& round, MonotonicTime deadline) {
    AutoStreams streams(context.streams->data().size());
    PageSet left = set;
    uint64_t left_pages = count_pages(left);
    uint64_t done_pages = 0;
    while (left_pages > 0 && !context.sender->was_cut()) {
        // A slice after which little is left can gain nothing.
        if (left_pages < 2 * streams.slice_pages()) streams.settle();
        const bool is_rest = streams.settled();
        if (is_rest) settle(context, streams);
        const PageSet slice = take_slice(left, is_rest ? left_pages : streams.slice_pages());
        const uint64_t pages = count_pages(slice);
        left_pages -= pages;
        v1::Round part;
        part.set_index(round.index());
        context.streams->use(streams.streams());
        GODWIT_RETURN_IF_ERROR(send_round(context, slice, part, GuestState::kRuns, deadline,
                                          RoundKind::kPages,
                                          {.before = done_pages, .after = left_pages}));
        done_pages += pages;
        add_slice(part, round);
        if (is_rest) return left;
        report_slice(part, streams.streams(), context.report);
        streams.note(measured(part));
    }
    streams.settle();
    settle(context, streams);
    return left;
}

}  // namespace godwit
