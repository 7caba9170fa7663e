#include "transport/stream/frame_reader.h"

#include <fmt/format.h>

#include <array>

namespace godwit {

FrameReader::FrameReader(Channel& channel, const FrameRoute& route, uint64_t first_sequence)
    : channel_(channel),
      route_(route),
      first_sequence_(first_sequence),
      sequence_(first_sequence) {}

absl::StatusOr<Frame> FrameReader::next() {
    if (!failure_.ok()) return failure_;
    absl::StatusOr<Frame> frame = read();
    if (frame.ok())
        ++sequence_;
    else
        failure_ = frame.status();
    return frame;
}

void FrameReader::reserve(FrameKind kind) {
    const size_t bound = body_bound(kind).max_bytes;
    if (body_.size() < bound) body_.resize(bound);
}

absl::Status FrameReader::named(const absl::Status& status) const {
    if (status.ok()) return status;
    return annotate(status, fmt::format("Frame {} of stream {}", sequence_, route_.stream));
}

absl::StatusOr<Frame> FrameReader::read() {
    std::array<std::byte, kFrameHeaderBytes> header_bytes{};
    GODWIT_RETURN_IF_ERROR(channel_.receive(header_bytes));
    const absl::StatusOr<FrameHeader> decoded = decode_header(header_bytes);
    GODWIT_RETURN_IF_ERROR(named(decoded.status()));
    const FrameHeader& header = *decoded;
    GODWIT_RETURN_IF_ERROR(named(check_route(header, route_, sequence_)));
    // decode_header has checked the length against this bound.
    const size_t bound = body_bound(header.kind).max_bytes;
    if (body_.size() < bound) body_.resize(bound);
    const auto body = std::span<std::byte>(body_).first(header.body_bytes);
    const absl::Status received = body.empty() ? absl::OkStatus() : channel_.receive(body);
    if (absl::IsOutOfRange(received))
        return absl::UnavailableError(
            fmt::format("the peer closed the connection after the header of a {} frame",
                        frame_kind_name(header.kind)));
    GODWIT_RETURN_IF_ERROR(received);
    const absl::Status checked = named(check_body(header, body));
    if (!checked.ok() && !(accepts_damaged_ && header.kind == FrameKind::kPages)) return checked;
    return Frame{header, body, checked.ok()};
}

}  // namespace godwit
