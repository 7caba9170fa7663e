// CPU time of processes and of the whole host, from /proc (proc(5)), in ticks of 10 ms.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "engine/base/status.h"

namespace godwit {

struct CpuSeconds {
    double user = 0;
    double system = 0;
    double guest = 0;  // what vCPUs ran under KVM; not in the others
    [[nodiscard]] double total() const { return user + system; }  // without the guest's
    bool operator==(const CpuSeconds&) const = default;
    CpuSeconds& operator+=(const CpuSeconds& other) {
        user += other.user;
        system += other.system;
        guest += other.guest;
        return *this;
    }
};
inline CpuSeconds operator-(const CpuSeconds& a, const CpuSeconds& b) {
    return {.user = a.user - b.user, .system = a.system - b.system, .guest = a.guest - b.guest};
}
inline CpuSeconds operator*(double factor, const CpuSeconds& a) {
    return {.user = factor * a.user, .system = factor * a.system, .guest = factor * a.guest};
}

struct ProcessCpu {
    CpuSeconds own;
    CpuSeconds reaped;  // of children that have ended and were waited for, theirs included
    pid_t parent = 0;
};

// What a line of /proc/PID/stat says, in seconds at `ticks_per_s`. Error: Internal.
absl::StatusOr<ProcessCpu> parse_process_stat(const std::string& line, double ticks_per_s);

// Of one process since it began. Error: NotFound when it is gone.
absl::StatusOr<CpuSeconds> cpu_of(pid_t pid);

// Of a process, of all that it has started and has waited for, and of its children that run: the
// same whether a child has ended or not, so that what a child used is never lost. Error: NotFound.
absl::StatusOr<CpuSeconds> cpu_of_family(pid_t pid);

// What /proc/PID/NAME says; empty when the process is gone, also while it is read.
std::string read_process_file(pid_t pid, const char* name);

// Children of a process, alive or not yet waited for.
std::vector<pid_t> children_of(pid_t pid);

// Of all CPUs since boot, without idling. Error: Internal.
absl::StatusOr<double> host_busy_s();

}  // namespace godwit
