// ThreadPlacement: where the threads that move pages run, and how far they stand back, so that
// guests keep their CPUs. Threads that guests wait for (page faults, guards) are not placed: for
// them the CPUs wake quickly.
#pragma once

#include <string_view>
#include <vector>

#include "engine/base/cpu_latency.h"
#include "engine/base/status.h"

namespace godwit {

struct ThreadPlacement {
    std::vector<int> cpus;  // none: wherever the host puts them
    int nice = 0;           // 0 to kMostNice
    // While a guest is frozen or waits for pages.
    CpuLatencyLimit cpu_latency = std::nullopt;

    static constexpr int kMostNice = 19;

    // Places the calling thread. What the host refuses by now (a CPU that was taken away) is logged
    // and left: it is no reason to move no pages.
    void apply() const;
};

// "0-3,6", ascending and each once afterwards. Errors: InvalidArgument for what is no such list, or
// names a CPU that does not exist or that this process may not use, with those that it may.
absl::StatusOr<std::vector<int>> parse_cpus(std::string_view text);

}  // namespace godwit
