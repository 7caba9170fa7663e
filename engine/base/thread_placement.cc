#include "engine/base/thread_placement.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <set>

#include "engine/base/log.h"

namespace godwit {
namespace {

// Above what any kernel is built for (CONFIG_NR_CPUS is at most 8192).
constexpr int kMostCpus = 1 << 14;

// A set of CPUs that may be larger than cpu_set_t.
class CpuSet {
  public:
    CpuSet() : set_(CPU_ALLOC(kMostCpus)) { CPU_ZERO_S(size(), set_.get()); }
    [[nodiscard]] static size_t size() { return CPU_ALLOC_SIZE(kMostCpus); }
    [[nodiscard]] cpu_set_t* get() const { return set_.get(); }
    void add(int cpu) { CPU_SET_S(static_cast<size_t>(cpu), size(), set_.get()); }
    [[nodiscard]] bool has(int cpu) const {
        return CPU_ISSET_S(static_cast<size_t>(cpu), size(), set_.get());
    }

  private:
    struct Free {
        void operator()(cpu_set_t* set) const { CPU_FREE(set); }
    };
    std::unique_ptr<cpu_set_t, Free> set_;
};

absl::StatusOr<std::vector<int>> usable_cpus() {
    const CpuSet set;
    if (::sched_getaffinity(0, CpuSet::size(), set.get()) != 0)
        return errno_status(errno, "sched_getaffinity");
    std::vector<int> cpus;
    for (int cpu = 0; cpu < kMostCpus; ++cpu)
        if (set.has(cpu)) cpus.push_back(cpu);
    return cpus;
}

std::optional<int> parse_cpu(std::string_view text) {
    int cpu = -1;
    const char* const end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, cpu);
    if (error != std::errc() || rest != end || cpu < 0 || cpu >= kMostCpus) return std::nullopt;
    return cpu;
}

// Adds "3" or "0-3".
absl::Status add_range(std::string_view text, std::set<int>& cpus) {
    const size_t dash = text.find('-');
    const std::optional<int> first = parse_cpu(text.substr(0, dash));
    const std::optional<int> last =
        dash == std::string_view::npos ? first : parse_cpu(text.substr(dash + 1));
    if (!first || !last || *first > *last)
        return absl::InvalidArgumentError(
            fmt::format("\"{}\" is no CPU; write them as 0-3,6", text));
    for (int cpu = *first; cpu <= *last; ++cpu) cpus.insert(cpu);
    return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<int>> parse_cpus(std::string_view text) {
    std::set<int> cpus;
    for (size_t begin = 0; begin <= text.size();) {
        const size_t end = std::min(text.find(',', begin), text.size());
        GODWIT_RETURN_IF_ERROR(add_range(text.substr(begin, end - begin), cpus));
        begin = end + 1;
    }
    GODWIT_ASSIGN_OR_RETURN(const std::vector<int> usable, usable_cpus());
    for (const int cpu : cpus)
        if (!std::binary_search(usable.begin(), usable.end(), cpu))
            return absl::InvalidArgumentError(
                fmt::format("there is no CPU {} that this process may use; there are {}", cpu,
                            fmt::join(usable, ",")));
    return std::vector<int>(cpus.begin(), cpus.end());
}

void ThreadPlacement::apply() const {
    if (!cpus.empty()) {
        CpuSet set;
        for (const int cpu : cpus) set.add(cpu);
        if (::sched_setaffinity(0, CpuSet::size(), set.get()) != 0)
            spdlog::warn("a thread runs where the host puts it: {}",
                         std::string(errno_status(errno, "sched_setaffinity").message()));
    }
    // Of the thread alone: that is how Linux has it.
    if (nice != 0 && ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), nice) != 0)
        spdlog::warn("a thread runs as others do: {}",
                     std::string(errno_status(errno, "setpriority").message()));
}

}  // namespace godwit
