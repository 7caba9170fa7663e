// The first exchange on every stream: the source proves with the session token that it belongs to
// the migration, the destination answers. Both use sequence number 0, so the frames that follow
// begin with kFirstSequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "transport/frame/bodies.h"
#include "transport/frame/frame_header.h"
#include "transport/stream/channel.h"
#include "transport/stream/tcp_channel.h"

namespace godwit {

// A handful of data streams, and the urgent one.
inline constexpr uint16_t kMaxStreams = 64;

// Source: sends the token and waits for the answer. Errors: the channel's; PermissionDenied when
// the destination closed without an answer (it does so for a wrong token); decode_header's.
absl::Status client_hello(Channel& channel, const FrameRoute& route, const SessionToken& token);
// The same, and a destination that stays silent is given up. Errors: also DeadlineExceeded, and
// Cancelled when `cancel_fd` (-1: none) became readable.
absl::Status client_hello(TcpChannel& channel, const FrameRoute& route, const SessionToken& token,
                          MonotonicTime deadline, int cancel_fd = -1);

struct HelloExpectation {
    MigrationId migration_id{};
    uint32_t generation = 0;
    uint16_t stream_count = 1;  // indices 0 … stream_count - 1 are valid; at most kMaxStreams
    SessionToken token{};
};

// A whole greeting: the frame of kHello.
inline constexpr size_t kHelloFrameBytes = kFrameHeaderBytes + sizeof(SessionToken);

// Whether these bytes greet as expected; returns the stream index. A pure function. Errors:
// PermissionDenied (another migration, a wrong token), InvalidArgument (an index or a generation
// that is not expected, another kind of frame), decode_header's and check_body's.
absl::StatusOr<uint16_t> check_hello(std::span<const std::byte, kHelloFrameBytes> bytes,
                                     const HelloExpectation& expected);

// Destination: receives the greeting, checks it, answers, and returns the route of the stream.
// After an error the caller drops the channel; a wrong greeting gets no answer. Blocks for as long
// as the peer is silent: where strangers can connect, use StreamAcceptor. Errors: check_hello's,
// the channel's.
absl::StatusOr<FrameRoute> server_hello(Channel& channel, const HelloExpectation& expected);
// Only the answer.
absl::Status acknowledge_hello(Channel& channel, const FrameRoute& route);

}  // namespace godwit
