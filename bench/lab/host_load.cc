#include "bench/lab/host_load.h"

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <sstream>

#include "engine/base/wait.h"

namespace godwit {
namespace {

constexpr Duration kWindow = std::chrono::milliseconds(500);
constexpr Duration kGlance = std::chrono::milliseconds(100);

}  // namespace

absl::StatusOr<CpuTimes> cpu_times_now() {
    std::ifstream in("/proc/stat");
    return parse_cpu_times({std::istreambuf_iterator<char>(in), {}});
}

absl::StatusOr<CpuTimes> parse_cpu_times(const std::string& stat) {
    // cpu user nice system idle iowait irq softirq steal guest guest_nice; the last two are in the
    // first two (proc(5)).
    constexpr int kFields = 8;
    constexpr int kIdle = 3;
    constexpr int kIowait = 4;
    std::istringstream in(stat);
    std::string name;
    in >> name;
    CpuTimes times;
    for (int field = 0; field < kFields; ++field) {
        uint64_t ticks = 0;
        in >> ticks;
        times.total += ticks;
        if (field == kIdle || field == kIowait) times.idle += ticks;
    }
    if (!in || name != "cpu")
        return absl::InternalError("/proc/stat does not begin with CPU times");
    return times;
}

double idle_percent(const CpuTimes& begin, const CpuTimes& end) {
    if (end.total <= begin.total) return 0;
    return 100.0 * static_cast<double>(end.idle - begin.idle) /
           static_cast<double>(end.total - begin.total);
}

double load_now() {
    double load = -1;
    return ::getloadavg(&load, 1) == 1 ? load : -1;
}

absl::StatusOr<double> wait_until_idle(double percent, Duration patience, int cancel_fd) {
    const MonotonicTime deadline = Clock::system().now() + patience;
    while (true) {
        GODWIT_ASSIGN_OR_RETURN(const CpuTimes begin, cpu_times_now());
        const absl::Status waited =
            wait_readable(-1, cancel_fd, Clock::system().now() + (percent > 0 ? kWindow : kGlance));
        if (absl::IsCancelled(waited)) return waited;
        GODWIT_ASSIGN_OR_RETURN(const CpuTimes end, cpu_times_now());
        const double idle = idle_percent(begin, end);
        if (idle >= percent || Clock::system().now() >= deadline) return idle;
    }
}

}  // namespace godwit
