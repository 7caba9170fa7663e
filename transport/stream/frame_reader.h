// FrameReader: receives and checks the frames of one direction of one stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/base/status.h"
#include "transport/frame/frame_header.h"
#include "transport/stream/channel.h"
#include "transport/stream/frame_writer.h"

namespace godwit {

struct Frame {
    FrameHeader header;
    std::span<const std::byte> body;  // valid until the next call of next()
    // False: the body is not the one that was sent. Only with accept_damaged_pages().
    bool intact = true;
    [[nodiscard]] FrameKind kind() const { return header.kind; }
};

// One thread. The channel must outlive it. The body's buffer grows to the bound of the largest kind
// that came (2 MiB and a little) and no further.
class FrameReader {
  public:
    FrameReader(Channel& channel, const FrameRoute& route,
                uint64_t first_sequence = kFirstSequence);

    // The next frame, whole and checked. Errors: OutOfRange when the peer closed between two
    // frames; the channel's; decode_header's, check_route's and check_body's, with the number of
    // the frame and of the stream. After an error every later call fails with the same error: the
    // stream is of no more use.
    absl::StatusOr<Frame> next();

    // From now on a kPages frame whose body fails its check is handed out, not intact, and the
    // stream goes on: its length was right.
    void accept_damaged_pages() { accepts_damaged_ = true; }

    // Grows the buffer now, so that the first frame of this kind does not wait for it.
    void reserve(FrameKind kind);

    [[nodiscard]] uint64_t frame_count() const { return sequence_ - first_sequence_; }

  private:
    absl::StatusOr<Frame> read();
    // With the frame that it is about.
    [[nodiscard]] absl::Status named(const absl::Status& status) const;

    Channel& channel_;
    const FrameRoute route_;
    const uint64_t first_sequence_;
    uint64_t sequence_;
    bool accepts_damaged_ = false;
    absl::Status failure_;
    std::vector<std::byte> body_;
};

}  // namespace godwit
