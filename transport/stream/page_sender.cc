#include "transport/stream/page_sender.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "engine/base/check.h"

namespace godwit {

PageSender::PageSender(FrameWriter& writer, const Options& options,
                       std::array<FrameBuffer, 3> buffers)
    : writer_(&writer), options_(options), buffers_(std::move(buffers)) {}

absl::StatusOr<PageSender> PageSender::create(FrameWriter& writer, const Options& options) {
    GODWIT_ASSIGN_OR_RETURN(FrameBuffer first, FrameBuffer::create());
    GODWIT_ASSIGN_OR_RETURN(FrameBuffer second, FrameBuffer::create());
    GODWIT_ASSIGN_OR_RETURN(FrameBuffer third, FrameBuffer::create());
    return PageSender(writer, options, {std::move(first), std::move(second), std::move(third)});
}

std::span<std::byte> PageSender::gather() {
    // Page faults would pass for a slow page pass, by which the codec is chosen. Not when it is
    // made: of many streams few may come to be used.
    if (!std::exchange(populated_, true))
        for (const FrameBuffer& buffer : buffers_) buffer.populate();
    gather_began_ = options_.clock->now();
    return buffers_[gather_].body().subspan(kPagesHeadBytes);
}

CodecGovernor::Packing PageSender::pack(PageCodec codec, std::span<const std::byte> raw) {
    const MonotonicTime begin = options_.clock->now();
    const auto size = codec_.pack(codec, raw, buffers_[spare()].body().subspan(kPagesHeadBytes));
    return {.raw_bytes = raw.size(),
            .packed_bytes = size.value_or(raw.size()),
            .time = options_.clock->now() - begin};
}

PageCodec PageSender::choose_codec(const PagesBody& pages) {
    switch (options_.compression) {
        case Compression::kOff:
            return PageCodec::kRaw;
        case Compression::kLz4:
            return PageCodec::kLz4;
        case Compression::kZstd:
            return PageCodec::kZstd;
        case Compression::kAuto:
            break;
    }
    const bool delta = 2 * count_pages(pages.delta) > count_pages(pages.filled());
    CodecGovernor::Step step = governor_.plan(
        {.raw_bytes = pages.raw_bytes,
         .pass = options_.clock->now() - gather_began_,
         .content = delta ? CodecGovernor::Content::kDelta : CodecGovernor::Content::kPlain});
    const size_t size = std::min<size_t>(pages.raw_bytes, CodecGovernor::kSampleBytes);
    const auto sample = pages.payload.subspan((pages.raw_bytes - size) / 2, size);
    while (step.is_sample) step = governor_.judge(pack(step.codec, sample));
    return step.codec;
}

size_t PageSender::place_payload(PagesBody& pages) {
    pages.payload = buffers_[gather_].body().subspan(kPagesHeadBytes, pages.raw_bytes);
    if (pages.raw_bytes == 0) return gather_;
    const PageCodec codec = choose_codec(pages);
    if (codec == PageCodec::kRaw) return gather_;
    const CodecGovernor::Packing packing = pack(codec, pages.payload);
    if (options_.compression == Compression::kAuto) governor_.packed(packing);
    if (packing.packed_bytes >= packing.raw_bytes) return gather_;
    pages.codec = codec;
    pages.payload = buffers_[spare()].body().subspan(kPagesHeadBytes, packing.packed_bytes);
    return spare();
}

absl::Status PageSender::send(const Chunk& chunk, const std::stop_token& stop) {
    PagesBody pages{.block = chunk.block,
                    .chunk = chunk.chunk,
                    .present = chunk.present,
                    .zero = chunk.zero,
                    .delta = chunk.delta};
    for (size_t i = 0; i < pages.zero.size(); ++i)
        GODWIT_CHECK((chunk.zero[i] & ~chunk.present[i]) == 0);
    pages.raw_bytes = count_pages(pages.filled()) * static_cast<uint32_t>(kPageBytes);
    const size_t from = place_payload(pages);
    const auto head = buffers_[from].body().first<kPagesHeadBytes>();
    encode_pages_head(pages, head);
    std::optional<uint64_t> checksum;
    if (pages.codec == PageCodec::kRaw && !chunk.hashes.empty())
        checksum = checksum_pages(head, chunk.hashes);

    const size_t body_bytes = kPagesHeadBytes + pages.payload.size();
    const MonotonicTime ready = options_.clock->now();
    if (options_.limiter != nullptr)
        GODWIT_RETURN_IF_ERROR(options_.limiter->acquire(kFrameHeaderBytes + body_bytes, stop));
    GODWIT_RETURN_IF_ERROR(
        writer_->send_async(buffers_[from], FrameKind::kPages, body_bytes, checksum));
    if (options_.compression == Compression::kAuto && pages.raw_bytes > 0) {
        const MonotonicTime now = options_.clock->now();
        governor_.sent(kFrameHeaderBytes + body_bytes, now - ready, now);
    }
    // The one that was sent before is free now.
    if (from == gather_) gather_ = sent_;
    sent_ = from;
    count(pages, kFrameHeaderBytes + body_bytes);
    return absl::OkStatus();
}

void PageSender::count(const PagesBody& pages, size_t frame_bytes) {
    totals_.raw_bytes += pages.raw_bytes;
    totals_.payload_bytes += pages.payload.size();
    totals_.frame_bytes += frame_bytes;
    const uint64_t deltas = count_pages(pages.delta);
    totals_.delta_pages += deltas;
    const uint64_t plain = pages.raw_bytes / kPageBytes - deltas;
    switch (pages.codec) {
        case PageCodec::kRaw:
            totals_.raw_pages += plain;
            break;
        case PageCodec::kLz4:
            totals_.lz4_pages += plain;
            break;
        case PageCodec::kZstd:
            totals_.zstd_pages += plain;
            break;
    }
}

absl::Status PageSender::flush() {
    governor_.link_idle();
    return writer_->wait();
}

bool PageSender::deltas_pay() const {
    switch (options_.compression) {
        case Compression::kOff:
            return false;
        case Compression::kLz4:
        case Compression::kZstd:
            return true;
        case Compression::kAuto:
            break;
    }
    return governor_.deltas_pay();
}

}  // namespace godwit
