// Free memory of the host made as quick to touch for one engine as for the next.
#pragma once

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// Touches `size` bytes, as huge pages where the kernel has them, and frees them again. In a virtual
// machine whose balloon reports free pages (virtio, free page reporting) the host's own host takes
// back what was free for some two seconds; whoever touches it next waits for it, up to two seconds
// a GiB. What is touched within the next seconds costs what it costs on real memory. Takes only
// what is available but for a reserve. Errors: ResourceExhausted; Cancelled.
absl::Status warm_memory(Bytes size, int cancel_fd);

// What a move touches afresh at the destination: the working set, and QEMU with its tables.
constexpr Bytes memory_of_move(Bytes working_set) { return working_set + (Bytes{512} << 20); }

}  // namespace godwit
