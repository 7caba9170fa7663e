#include "dirty-tracking/attach/thread_choice.h"

#include <fmt/format.h>
#include <sys/syscall.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

namespace godwit {
namespace {

std::string first_line(const std::string& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

// Calls that go on after a stop as if nothing had happened (signal(7): restarted after a stop
// signal), in QEMU's threads in practice.
bool kernel_restarts(long number) {
    static constexpr std::array<long, 17> kRestarted{
        SYS_futex,    SYS_read,   SYS_readv,   SYS_poll,    SYS_ppoll,          SYS_select,
        SYS_pselect6, SYS_accept, SYS_accept4, SYS_recvmsg, SYS_recvfrom,       SYS_nanosleep,
        SYS_wait4,    SYS_waitid, SYS_pause,   SYS_flock,   SYS_clock_nanosleep};
    return std::find(kRestarted.begin(), kRestarted.end(), number) != kRestarted.end();
}

// What /proc/PID/task/TID/syscall says: "running", or "<number> <arguments> <sp> <pc>"; -1 is
// blocked outside a system call (a page fault).
int rank_of_call(const std::string& line) {
    if (line.rfind("running", 0) == 0) return 4;
    long number = -1;
    std::from_chars(line.data(), line.data() + line.size(), number);
    if (kernel_restarts(number)) return 1;
    if (number == SYS_restart_syscall) return 2;  // restarted before: its number is lost
    return 5;
}

}  // namespace

absl::StatusOr<std::vector<ThreadChoice>> choose_threads(pid_t pid,
                                                         std::span<const pid_t> excluded) {
    std::error_code error;
    std::filesystem::directory_iterator tasks(fmt::format("/proc/{}/task", pid), error);
    if (error) return absl::NotFoundError(fmt::format("there is no process {}", pid));
    std::vector<ThreadChoice> choices;
    for (; tasks != std::filesystem::directory_iterator(); tasks.increment(error)) {
        const std::string directory = tasks->path().string();
        const std::string text = tasks->path().filename().string();
        pid_t thread = 0;
        std::from_chars(text.data(), text.data() + text.size(), thread);
        if (std::find(excluded.begin(), excluded.end(), thread) != excluded.end()) continue;
        ThreadChoice choice{.thread = thread, .name = first_line(directory + "/comm")};
        choice.rank = rank_of_call(first_line(directory + "/syscall"));
        if (choice.rank == 1 && choice.name == "call_rcu") choice.rank = 0;
        if (choice.name.rfind("CPU ", 0) == 0) choice.rank = 6;
        choices.push_back(std::move(choice));
    }
    if (choices.empty()) {
        return absl::FailedPreconditionError(
            fmt::format("process {} has no thread but its vCPUs", pid));
    }
    std::stable_sort(choices.begin(), choices.end(),
                     [](const auto& a, const auto& b) { return a.rank < b.rank; });
    return choices;
}

pid_t tracer_of(pid_t pid, pid_t thread) {
    std::ifstream file(fmt::format("/proc/{}/task/{}/status", pid, thread));
    static constexpr std::string_view kKey = "TracerPid:\t";
    for (std::string line; std::getline(file, line);) {
        if (line.rfind(kKey, 0) != 0) continue;
        pid_t tracer = 0;
        std::from_chars(line.data() + kKey.size(), line.data() + line.size(), tracer);
        return tracer;
    }
    return 0;
}

}  // namespace godwit
