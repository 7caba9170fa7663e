#include "tools/godwitd/vcpu_time.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

namespace godwit {

absl::StatusOr<double> parse_thread_cpu_s(const std::string& line, double ticks_per_s) {
    // tid (name) state …; the name may have spaces and parentheses. Fields 14 and 15 are utime and
    // stime, 4 to 13 numbers.
    const size_t name_end = line.rfind(')');
    std::istringstream in(name_end == std::string::npos ? "" : line.substr(name_end + 1));
    std::string state;
    in >> state;
    double field = 0;
    for (int i = 4; i <= 13; ++i) in >> field;
    double user = 0;
    double system = 0;
    if (!(in >> user >> system) || user < 0 || system < 0)
        return absl::InternalError(fmt::format("not a thread's stat: \"{}\"", line));
    return (user + system) / ticks_per_s;
}

absl::StatusOr<double> threads_cpu_s(pid_t pid, std::span<const pid_t> threads) {
    const auto ticks_per_s = static_cast<double>(::sysconf(_SC_CLK_TCK));
    double sum = 0;
    for (const pid_t thread : threads) {
        const std::ifstream file(fmt::format("/proc/{}/task/{}/stat", pid, thread));
        std::ostringstream text;
        text << file.rdbuf();
        if (text.str().empty())
            return absl::NotFoundError(fmt::format("there is no vCPU thread {}", thread));
        GODWIT_ASSIGN_OR_RETURN(const double used, parse_thread_cpu_s(text.str(), ticks_per_s));
        sum += used;
    }
    return sum;
}

}  // namespace godwit
