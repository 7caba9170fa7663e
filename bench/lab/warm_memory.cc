#include "bench/lab/warm_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <fstream>
#include <limits>
#include <string>

#include "engine/base/mapping.h"
#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Bytes kReserve = Bytes{1} << 30;  // never touched, whatever is asked for
constexpr Bytes kStep = Bytes{64} << 20;    // between two looks at cancel_fd

Bytes available_memory() {
    std::ifstream in("/proc/meminfo");
    std::string name;
    for (Bytes kib = 0; in >> name >> kib; in.ignore(std::numeric_limits<int>::max(), '\n'))
        if (name == "MemAvailable:") return kib << 10;
    return 0;
}

}  // namespace

absl::Status warm_memory(Bytes size, int cancel_fd) {
    const Bytes available = available_memory();
    size = std::min(size, available > kReserve ? available - kReserve : 0) / kStep * kStep;
    if (size == 0) return absl::OkStatus();
    GODWIT_ASSIGN_OR_RETURN(const Mapping memory, Mapping::anonymous(size));
    for (Bytes at = 0; at < size; at += kStep) {
        if (absl::IsCancelled(wait_readable(-1, cancel_fd, Clock::system().now())))
            return absl::CancelledError("interrupted");
        if (::madvise(memory.data() + at, kStep, MADV_POPULATE_WRITE) != 0)
            return absl::ResourceExhaustedError("memory cannot be warmed");
    }
    return absl::OkStatus();
}

}  // namespace godwit
