// Two connected channels in one process, for tests and for benchmarks without a network.
#pragma once

#include <memory>
#include <utility>

#include "engine/base/status.h"
#include "transport/stream/tcp_channel.h"

namespace godwit {

// What one end sends the other receives (a unix socketpair). Errors: socketpair's, Ring::create's.
absl::StatusOr<std::pair<std::unique_ptr<TcpChannel>, std::unique_ptr<TcpChannel>>>
loopback_channel_pair(RingKind ring = RingKind::kIoUring);

}  // namespace godwit
