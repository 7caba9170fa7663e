#include "bench/lab/warm_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <condition_variable>
#include <fstream>
#include <limits>
#include <mutex>
#include <string>

#include "engine/base/log.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Bytes kReserve = Bytes{1} << 30;  // never touched, whatever is asked for
constexpr Bytes kStep = Bytes{64} << 20;    // touched, and given back, at once
// So much is free ahead of whoever takes it: 5 ms of the fastest copy, several times over.
constexpr Bytes kAhead = 2 * kStep;
constexpr Duration kLookAtFreeEvery = std::chrono::milliseconds(5);

// A line of /proc/meminfo.
Bytes meminfo(const std::string& wanted) {
    std::ifstream in("/proc/meminfo");
    std::string name;
    for (Bytes kib = 0; in >> name >> kib; in.ignore(std::numeric_limits<int>::max(), '\n'))
        if (name == wanted) return kib << 10;
    return 0;
}

}  // namespace

Bytes memory_of_move(const EngineName& engine, const GuestConfig& guest) {
    const bool fills_both = engine.kind == EngineKind::kQemu && engine.shared;
    return memory_of_move(fills_both ? 2 * guest.memory : guest.working_set);
}

absl::StatusOr<std::unique_ptr<WarmMemory>> WarmMemory::hold(Bytes size, int cancel_fd,
                                                             const FreeMemory& free_memory) {
    const Bytes available = meminfo("MemAvailable:");
    size = std::min(size, available > kReserve ? available - kReserve : 0) / kStep * kStep;
    if (size == 0) return std::unique_ptr<WarmMemory>(new WarmMemory({}, free_memory));
    GODWIT_ASSIGN_OR_RETURN(Mapping memory, Mapping::anonymous(size));
    for (Bytes at = 0; at < size; at += kStep) {
        if (absl::IsCancelled(wait_readable(-1, cancel_fd, Clock::system().now())))
            return absl::CancelledError("interrupted");
        if (::madvise(memory.data() + at, kStep, MADV_POPULATE_WRITE) != 0)
            return absl::ResourceExhaustedError("memory cannot be warmed");
    }
    std::unique_ptr<WarmMemory> warm(new WarmMemory(std::move(memory), free_memory));
    warm->giver_ =
        std::jthread([self = warm.get()](const std::stop_token& stop) { self->give_back(stop); });
    return warm;
}

Bytes WarmMemory::free_memory_of_host() { return meminfo("MemFree:"); }

void WarmMemory::give_back(const std::stop_token& stop) {
    set_thread_name("warm-memory");
    std::mutex mutex;
    std::condition_variable_any never;  // only a stop ends the wait early
    const Bytes cold = free_memory_();
    for (Bytes at = 0; at < memory_.size() && !stop.stop_requested();) {
        if (free_memory_() >= cold + kAhead) {
            std::unique_lock lock(mutex);
            never.wait_for(lock, stop, kLookAtFreeEvery, [] { return false; });
            continue;
        }
        ::madvise(memory_.data() + at, kStep, MADV_DONTNEED);
        at += kStep;
    }
}

}  // namespace godwit
