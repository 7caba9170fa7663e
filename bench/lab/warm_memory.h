// Free memory of the host that is as quick to touch for one engine as for the next.
#pragma once

#include <functional>
#include <memory>
#include <thread>

#include "bench/lab/engine_name.h"
#include "bench/lab/peer_argv.h"
#include "engine/base/mapping.h"
#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// In a virtual machine whose balloon reports free pages (virtio, free page reporting) the host's
// own host takes back what was free for some two seconds; whoever touches it next waits for it, up
// to two seconds a GiB, and the wait looks like its own CPU time. This holds touched memory and
// gives it back piece by piece, as fast as others take what is free: what they get has just been
// used, and costs what it costs on real memory.
class WarmMemory {
  public:
    using FreeMemory = std::function<Bytes()>;
    // Touches `size` bytes, as huge pages where the kernel has them, but for a reserve that is left
    // to others. `free_memory`: what nobody holds, of the whole host. Errors: ResourceExhausted;
    // Cancelled.
    static absl::StatusOr<std::unique_ptr<WarmMemory>> hold(
        Bytes size, int cancel_fd, const FreeMemory& free_memory = free_memory_of_host);
    // What is left goes at once.
    ~WarmMemory() = default;
    WarmMemory(const WarmMemory&) = delete;
    WarmMemory& operator=(const WarmMemory&) = delete;

  private:
    WarmMemory(Mapping memory, FreeMemory free_memory)
        : memory_(std::move(memory)), free_memory_(std::move(free_memory)) {}
    static Bytes free_memory_of_host();
    void give_back(const std::stop_token& stop);

    Mapping memory_;
    FreeMemory free_memory_;
    std::jthread giver_;
};

// What a move touches afresh at the destination: the working set, and QEMU with its tables.
constexpr Bytes memory_of_move(Bytes working_set) { return working_set + (Bytes{512} << 20); }
// The same of this engine. QEMU reads all of a guest's RAM, on either side: in a shared file that
// fills what was never touched.
Bytes memory_of_move(const EngineName& engine, const GuestConfig& guest);

}  // namespace godwit
