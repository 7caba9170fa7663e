// Which kind of ring an agent's data streams use: io_uring where it works.
#pragma once

#include <string>

#include "transport/ring/ring.h"

namespace godwit {

struct RingChoice {
    RingKind kind = RingKind::kIoUring;
    std::string reason;  // why it is not io_uring
};

// Tries io_uring, unless it is not `wanted`. Never fails: plain sockets always work.
RingChoice choose_ring(bool wanted);

}  // namespace godwit
