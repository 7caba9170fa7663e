#include "transport/stream/frame_writer.h"

#include <algorithm>

#include "engine/base/hash.h"

namespace godwit {

absl::StatusOr<FrameBuffer> FrameBuffer::create() {
    GODWIT_ASSIGN_OR_RETURN(Mapping memory, Mapping::anonymous_behind_page(kChunkBytes));
    return FrameBuffer(std::move(memory));
}

FrameWriter::FrameWriter(Channel& channel, const FrameRoute& route, uint64_t first_sequence)
    : channel_(channel), route_(route), sequence_(first_sequence) {}

void FrameWriter::begin_frame(FrameKind kind, std::span<std::byte> frame, uint64_t checksum) {
    const auto body = frame.subspan(kFrameHeaderBytes);
    const FrameHeader header{.kind = kind,
                             .route = route_,
                             .body_bytes = static_cast<uint32_t>(body.size()),
                             .sequence = sequence_,
                             .body_checksum = checksum};
    encode_header(header, frame.first<kFrameHeaderBytes>());
}

absl::Status FrameWriter::end_frame(absl::Status status) {
    if (status.ok()) {
        ++sequence_;
        ++frame_count_;
    } else {
        failure_ = status;
    }
    return status;
}

absl::Status FrameWriter::send(FrameKind kind, std::span<const std::byte> body) {
    GODWIT_RETURN_IF_ERROR(check_body_bound(kind, body.size()));
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    const size_t size = kFrameHeaderBytes + body.size();
    if (scratch_.size() < size) scratch_.resize(size);
    std::copy(body.begin(), body.end(), scratch_.begin() + kFrameHeaderBytes);
    const auto frame = std::span<std::byte>(scratch_).first(size);
    begin_frame(kind, frame, checksum_body(kind, body));
    return end_frame(channel_.send(frame));
}

absl::Status FrameWriter::send_async(const FrameBuffer& buffer, FrameKind kind, size_t body_bytes,
                                     std::optional<uint64_t> checksum) {
    GODWIT_RETURN_IF_ERROR(check_body_bound(kind, body_bytes));
    if (!checksum) checksum = checksum_body(kind, buffer.body().first(body_bytes));
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    const auto frame = buffer.frame(body_bytes);
    begin_frame(kind, frame, *checksum);
    return end_frame(channel_.start_send(frame));
}

absl::Status FrameWriter::wait() {
    const std::lock_guard lock(mutex_);
    if (!failure_.ok()) return failure_;
    const absl::Status status = channel_.finish_send();
    if (!status.ok()) failure_ = status;
    return status;
}

uint64_t FrameWriter::frame_count() const {
    const std::lock_guard lock(mutex_);
    return frame_count_;
}

}  // namespace godwit
