#include "transport/stream/page_sender.h"

#include <cstring>
#include <utility>

#include "engine/base/check.h"

namespace godwit {

PageSender::PageSender(FrameWriter& writer, RateLimiter* limiter,
                       std::array<FrameBuffer, 2> buffers)
    : writer_(&writer), limiter_(limiter), buffers_(std::move(buffers)) {}

absl::StatusOr<PageSender> PageSender::create(FrameWriter& writer, const Options& options) {
    GODWIT_ASSIGN_OR_RETURN(FrameBuffer first, FrameBuffer::create());
    GODWIT_ASSIGN_OR_RETURN(FrameBuffer second, FrameBuffer::create());
    PageSender sender(writer, options.limiter, {std::move(first), std::move(second)});
    if (options.compress) {
        sender.codec_.emplace();
        GODWIT_ASSIGN_OR_RETURN(sender.gathered_, Mapping::anonymous(kChunkBytes));
    }
    return sender;
}

std::span<std::byte> PageSender::gather() {
    return codec_ ? gathered_.bytes() : buffers_[current_].body().subspan(kPagesHeadBytes);
}

absl::Status PageSender::send(const Chunk& chunk, const std::stop_token& stop) {
    PagesBody pages{
        .block = chunk.block, .chunk = chunk.chunk, .present = chunk.present, .zero = chunk.zero};
    for (size_t i = 0; i < pages.zero.size(); ++i)
        GODWIT_CHECK((chunk.zero[i] & ~chunk.present[i]) == 0);
    pages.raw_bytes = count_pages(pages.filled()) * static_cast<uint32_t>(kPageBytes);

    const auto body = buffers_[current_].body();
    size_t payload_bytes = pages.raw_bytes;
    if (codec_) {
        const ChunkCodec::Encoded encoded = codec_->compress(
            gathered_.bytes().first(pages.raw_bytes), body.subspan(kPagesHeadBytes));
        pages.codec = encoded.codec;
        payload_bytes = encoded.payload_bytes;
    }
    encode_pages_head(pages, body.first<kPagesHeadBytes>());

    std::optional<uint64_t> checksum;
    if (pages.codec == PageCodec::kRaw && !chunk.hashes.empty())
        checksum = checksum_pages(body.first<kPagesHeadBytes>(), chunk.hashes);

    const Bytes frame_bytes = kFrameHeaderBytes + kPagesHeadBytes + payload_bytes;
    if (limiter_ != nullptr) GODWIT_RETURN_IF_ERROR(limiter_->acquire(frame_bytes, stop));
    GODWIT_RETURN_IF_ERROR(writer_->send_async(buffers_[current_], FrameKind::kPages,
                                               kPagesHeadBytes + payload_bytes, checksum));
    current_ ^= 1;
    totals_.raw_bytes += pages.raw_bytes;
    totals_.payload_bytes += payload_bytes;
    totals_.frame_bytes += frame_bytes;
    return absl::OkStatus();
}

}  // namespace godwit
