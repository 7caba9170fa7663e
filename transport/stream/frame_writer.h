// FrameWriter: numbers, checksums and sends the frames of one direction of one stream.
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>
#include <vector>

#include "engine/base/mapping.h"
#include "engine/base/status.h"
#include "engine/base/thread_annotations.h"
#include "transport/frame/frame_header.h"
#include "transport/frame/pages_body.h"
#include "transport/stream/channel.h"

namespace godwit {

// The greeting has sequence number 0.
inline constexpr uint64_t kFirstSequence = 1;

// Room for a whole kPages frame, so that its body is built where it is sent from. The payload is
// one huge page, if the host has one, and the headers end where it begins.
class FrameBuffer {
  public:
    static absl::StatusOr<FrameBuffer> create();
    // Has all of it in memory before it is used.
    void populate() const { memory_.populate(); }
    [[nodiscard]] std::span<std::byte> body() const {
        return memory_.bytes().subspan(kFrameBegin + kFrameHeaderBytes, kMaxPagesBodyBytes);
    }
    // The header and the first `body_bytes` of the body.
    [[nodiscard]] std::span<std::byte> frame(size_t body_bytes) const {
        return memory_.bytes().subspan(kFrameBegin, kFrameHeaderBytes + body_bytes);
    }

  private:
    static constexpr size_t kFrameBegin = kPageBytes - kFrameHeaderBytes - kPagesHeadBytes;
    explicit FrameBuffer(Mapping memory) : memory_(std::move(memory)) {}
    Mapping memory_;
};

// Thread-safe: every frame leaves whole, in the order of its number. After an error every later
// call fails with the same error. The channel must outlive it.
class FrameWriter {
  public:
    FrameWriter(Channel& channel, const FrameRoute& route,
                uint64_t first_sequence = kFirstSequence);

    // Sends a frame and waits until the channel has taken it; `body` is copied. Errors: the
    // channel's; InvalidArgument when the body is out of the kind's bounds (nothing was sent, and
    // later calls may succeed).
    absl::Status send(FrameKind kind, std::span<const std::byte> body = {});

    // Begins to send the frame whose first `body_bytes` of body the caller wrote into `buffer`, and
    // waits for the one before it. The buffer must stay unchanged, and the calling thread alive,
    // until the next send_async() or wait() has returned. Errors: as send().
    // `checksum`: the body's (checksum_body), where the caller knows it.
    absl::Status send_async(const FrameBuffer& buffer, FrameKind kind, size_t body_bytes,
                            std::optional<uint64_t> checksum = std::nullopt);
    // Waits until the channel has taken everything.
    absl::Status wait();

    [[nodiscard]] uint64_t frame_count() const;

  private:
    // Writes the next frame's header to the front of `frame`, whose rest is the body.
    void begin_frame(FrameKind kind, std::span<std::byte> frame, uint64_t checksum);
    // Counts a frame that went out, or remembers why it could not.
    absl::Status end_frame(absl::Status status);

    Channel& channel_;
    const FrameRoute route_;
    mutable std::mutex mutex_;
    uint64_t sequence_ GODWIT_GUARDED_BY(mutex_);
    uint64_t frame_count_ GODWIT_GUARDED_BY(mutex_) = 0;
    absl::Status failure_ GODWIT_GUARDED_BY(mutex_);
    // Header and body of send(); grows to the bound of the largest kind.
    std::vector<std::byte> scratch_ GODWIT_GUARDED_BY(mutex_);
};

}  // namespace godwit
