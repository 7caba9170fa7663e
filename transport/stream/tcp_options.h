// TcpOptions: how the TCP sockets of a migration are set up, and what this host can do of it.
#pragma once

#include <chrono>
#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"
#include "transport/ring/ring.h"

namespace godwit {

// The last stream of a migration has small frames that somebody waits for: an io_uring is told of
// what came by way of its completions, and a question and its answer take 2.4 times as long
// (transport_micro_bench, ring_round_trip).
inline constexpr RingKind kUrgentRing = RingKind::kSockets;

struct TcpOptions {
    // How long sent data may stay unacknowledged, and a silent peer unanswered, before the
    // connection counts as lost (TCP_USER_TIMEOUT and keepalive); 0: the kernel's own, minutes.
    std::chrono::milliseconds user_timeout{30'000};
    // Upper bounds of the kernel's socket buffers; 0: the kernel sizes them itself up to its
    // net.ipv4.tcp_wmem and tcp_rmem, which is best for bulk data.
    Bytes send_buffer_bytes = 0;
    Bytes receive_buffer_bytes = 0;
    std::string congestion_control;  // as check_congestion_control(); empty: the host's own
    // Numeric address that a connection comes from; empty: as the host's routes say.
    std::string source_address;
    RingKind ring = RingKind::kIoUring;
};

// Sets TCP_NODELAY, timeouts, buffers and congestion control on a TCP socket.
absl::Status apply_tcp_options(int socket, const TcpOptions& options);

// Sets only the timeouts, on a connection that may be in use.
absl::Status set_tcp_timeout(int socket, std::chrono::milliseconds user_timeout);

// For a connection that carries bulk data, after its handshake: bounds what waits unsent, and on a
// connection with a short round trip also the socket buffers, which the kernel would let grow to
// many times what is in flight. Elsewhere the kernel sizes them. Returns whether it is short.
absl::StatusOr<bool> fit_tcp_buffers(int socket);

// Makes a socket of that family (AF_INET, AF_INET6) come from `address`, from any free port.
// Errors: InvalidArgument for what is no numeric address, is of another family, or is not this
// host's.
absl::Status bind_to_source(int socket, int family, const std::string& address);

// Whether this process can use them. Errors: InvalidArgument, with what there is instead.
absl::Status check_congestion_control(const std::string& name);
absl::Status check_source_address(const std::string& address);

}  // namespace godwit
