#include "transport/ring/ring_choice.h"

#include "transport/ring/io_uring_ring.h"

namespace godwit {

RingChoice choose_ring(bool wanted) {
    if (!wanted) return {RingKind::kSockets, "--no-io-uring"};
    const absl::Status works = IoUringRing::probe();
    if (works.ok()) return {RingKind::kIoUring, ""};
    return {RingKind::kSockets, std::string(works.message())};
}

}  // namespace godwit
