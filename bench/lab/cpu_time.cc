#include "bench/lab/cpu_time.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cctype>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "bench/lab/host_load.h"

namespace godwit {
namespace {

constexpr int kMaxLooks = 100;

double ticks_per_s() { return static_cast<double>(::sysconf(_SC_CLK_TCK)); }

absl::StatusOr<ProcessCpu> read_process(pid_t pid) {
    const std::string line = read_process_file(pid, "stat");
    if (line.empty()) return absl::NotFoundError(fmt::format("there is no process {}", pid));
    return parse_process_stat(line, ticks_per_s());
}

absl::StatusOr<CpuSeconds> sum_of_family(pid_t pid) {
    GODWIT_ASSIGN_OR_RETURN(const ProcessCpu self, read_process(pid));
    CpuSeconds sum = self.own;
    sum += self.reaped;
    for (const pid_t child : children_of(pid)) {
        const auto used = sum_of_family(child);
        if (used.ok()) sum += *used;
    }
    return sum;
}

}  // namespace

std::string read_process_file(pid_t pid, const char* name) {
    const std::ifstream in(fmt::format("/proc/{}/{}", pid, name));
    // Reading of a process that has ended meanwhile is ESRCH, which an istreambuf_iterator throws.
    std::ostringstream text;
    text << in.rdbuf();
    return text.str();
}

absl::StatusOr<ProcessCpu> parse_process_stat(const std::string& line, double ticks_per_s) {
    // pid (name) state ppid …; the name may have spaces and parentheses. Fields 14 to 17 are utime,
    // stime, cutime, cstime; 43 and 44 are guest_time and cguest_time, which utime and cutime have
    // in them.
    constexpr size_t kFirst = 3;
    const auto at = [](size_t field) { return field - kFirst; };
    const size_t name_end = line.rfind(')');
    std::istringstream in(name_end == std::string::npos ? "" : line.substr(name_end + 1));
    std::string state;
    in >> state;
    std::vector<double> fields{0};
    for (double value = 0; in >> value;) fields.push_back(value);
    if (fields.size() <= at(44))
        return absl::InternalError(fmt::format("not a /proc/PID/stat: \"{}\"", line));
    const auto cpu = [&](size_t user, size_t system, size_t guest) {
        return CpuSeconds{.user = (fields[at(user)] - fields[at(guest)]) / ticks_per_s,
                          .system = fields[at(system)] / ticks_per_s,
                          .guest = fields[at(guest)] / ticks_per_s};
    };
    return ProcessCpu{.own = cpu(14, 15, 43),
                      .reaped = cpu(16, 17, 44),
                      .parent = static_cast<pid_t>(fields[at(4)])};
}

absl::StatusOr<CpuSeconds> cpu_of(pid_t pid) {
    GODWIT_ASSIGN_OR_RETURN(const ProcessCpu cpu, read_process(pid));
    return cpu.own;
}

std::vector<pid_t> children_of(pid_t pid) {
    std::vector<pid_t> children;
    std::error_code error;
    for (const auto& task :
         std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid), error)) {
        std::ifstream in(task.path() / "children");
        for (pid_t child = 0; in >> child;) children.push_back(child);
    }
    return children;
}

absl::StatusOr<CpuSeconds> cpu_of_family(pid_t pid) {
    // A child that is waited for meanwhile is seen twice or not at all: then once more.
    for (int look = 0; look < kMaxLooks; ++look) {
        GODWIT_ASSIGN_OR_RETURN(const ProcessCpu before, read_process(pid));
        const std::vector<pid_t> children = children_of(pid);
        GODWIT_ASSIGN_OR_RETURN(const CpuSeconds sum, sum_of_family(pid));
        GODWIT_ASSIGN_OR_RETURN(const ProcessCpu after, read_process(pid));
        if (before.reaped == after.reaped && children == children_of(pid)) return sum;
    }
    return absl::UnavailableError(fmt::format("the children of {} come and go", pid));
}

absl::StatusOr<double> host_busy_s() {
    GODWIT_ASSIGN_OR_RETURN(const CpuTimes times, cpu_times_now());
    return static_cast<double>(times.total - times.idle) / ticks_per_s();
}

}  // namespace godwit
