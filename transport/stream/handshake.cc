#include "transport/stream/handshake.h"

#include <fmt/format.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>

#include "engine/base/wait.h"
#include "transport/stream/frame_writer.h"

namespace godwit {
namespace {

constexpr uint64_t kGreetingSequence = 0;

absl::Status send_greeting(Channel& channel, const FrameRoute& route, const SessionToken& token) {
    FrameWriter writer(channel, route, kGreetingSequence);
    return writer.send(FrameKind::kHello, HelloBody{token}.encode());
}

// poll() shows a TCP socket as readable from this many bytes on, or at its end.
absl::Status set_low_water(int socket, size_t bytes) {
    const int value = static_cast<int>(bytes);
    if (::setsockopt(socket, SOL_SOCKET, SO_RCVLOWAT, &value, sizeof value) == 0)
        return absl::OkStatus();
    return errno_status(errno, "setsockopt SO_RCVLOWAT");
}

absl::StatusOr<FrameHeader> receive_header(Channel& channel, const FrameRoute& route) {
    std::array<std::byte, kFrameHeaderBytes> bytes{};
    GODWIT_RETURN_IF_ERROR(channel.receive(bytes));
    GODWIT_ASSIGN_OR_RETURN(const FrameHeader header, decode_header(bytes));
    GODWIT_RETURN_IF_ERROR(check_route(header, route, kGreetingSequence));
    return header;
}

// The answer is a header and no more. Whatever announces a body is none, and is not waited for: it
// would come when it pleases the peer.
absl::Status receive_answer(Channel& channel, const FrameRoute& route) {
    const absl::StatusOr<FrameHeader> answer = receive_header(channel, route);
    if (absl::IsOutOfRange(answer.status()))
        return absl::PermissionDeniedError(fmt::format(
            "the destination closed stream {} without an answer: it does not expect this "
            "migration, stream or session token",
            route.stream));
    if (!answer.ok())
        return annotate(answer.status(),
                        fmt::format("no answer to the greeting of stream {}", route.stream));
    if (answer->kind == FrameKind::kHelloAck) return check_body(*answer, {});
    return absl::InvalidArgumentError(
        fmt::format("the destination answered the greeting of stream {} with {}", route.stream,
                    frame_kind_name(answer->kind)));
}

}  // namespace

absl::Status client_hello(Channel& channel, const FrameRoute& route, const SessionToken& token) {
    GODWIT_RETURN_IF_ERROR(send_greeting(channel, route, token));
    return receive_answer(channel, route);
}

absl::Status client_hello(TcpChannel& channel, const FrameRoute& route, const SessionToken& token,
                          MonotonicTime deadline, int cancel_fd) {
    GODWIT_RETURN_IF_ERROR(send_greeting(channel, route, token));
    // Read when all of it is there (or the stream has ended): a peer that sends one byte and no
    // more must not hold us beyond the deadline.
    GODWIT_RETURN_IF_ERROR(set_low_water(channel.fd(), kFrameHeaderBytes));
    GODWIT_RETURN_IF_ERROR(
        annotate(wait_readable(channel.fd(), cancel_fd, deadline),
                 fmt::format("The destination did not answer on stream {}", route.stream)));
    GODWIT_RETURN_IF_ERROR(set_low_water(channel.fd(), 1));
    return receive_answer(channel, route);
}

absl::StatusOr<uint16_t> check_hello(std::span<const std::byte, kHelloFrameBytes> bytes,
                                     const HelloExpectation& expected) {
    GODWIT_ASSIGN_OR_RETURN(const FrameHeader header,
                            decode_header(bytes.first<kFrameHeaderBytes>()));
    if (header.kind != FrameKind::kHello)
        return absl::InvalidArgumentError(
            fmt::format("a stream begins with {}", frame_kind_name(header.kind)));
    const auto body = bytes.subspan<kFrameHeaderBytes>();
    GODWIT_RETURN_IF_ERROR(check_body(header, body));
    // The stream is whatever it says, if there is one.
    const FrameRoute route{expected.migration_id, header.route.stream, expected.generation};
    GODWIT_RETURN_IF_ERROR(check_route(header, route, kGreetingSequence));
    GODWIT_ASSIGN_OR_RETURN(const HelloBody hello, HelloBody::decode(body));
    if (!equal_tokens(hello.token, expected.token))
        return absl::PermissionDeniedError("a stream came with a wrong session token");
    if (header.route.stream >= expected.stream_count)
        return absl::InvalidArgumentError(fmt::format("stream {} of a migration with {} streams",
                                                      header.route.stream, expected.stream_count));
    return header.route.stream;
}

absl::Status acknowledge_hello(Channel& channel, const FrameRoute& route) {
    return FrameWriter(channel, route, kGreetingSequence).send(FrameKind::kHelloAck);
}

absl::StatusOr<FrameRoute> server_hello(Channel& channel, const HelloExpectation& expected) {
    std::array<std::byte, kHelloFrameBytes> bytes{};
    GODWIT_RETURN_IF_ERROR(channel.receive(bytes));
    GODWIT_ASSIGN_OR_RETURN(const uint16_t stream, check_hello(bytes, expected));
    const FrameRoute route{expected.migration_id, stream, expected.generation};
    GODWIT_RETURN_IF_ERROR(acknowledge_hello(channel, route));
    return route;
}

}  // namespace godwit
