// Processes: starting a QEMU that outlives us, knowing it again, seeing it end.
#pragma once

#include <sys/types.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/clock.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// A process, told from a later one with the same pid by when it started.
struct ProcessId {
    pid_t pid = 0;
    uint64_t start_time = 0;  // clock ticks after boot: field 22 of /proc/PID/stat
    bool operator==(const ProcessId&) const = default;
};

struct SpawnRequest {
    std::string program;                   // absolute path
    std::vector<std::string> argv;         // argv[0] included
    std::vector<std::string> environment;  // "NAME=value", on top of our own
    std::vector<int> keep_fds;  // stay open under their own numbers; every other one closes
    int log_fd = -1;            // becomes stdout and stderr
};

struct Spawned {
    ProcessId id;
    UniqueFd pidfd;
};

// Starts a process in a session of its own, with / as its directory, umask 077 and all signals at
// their defaults. It does not end with us. `before_exec` runs after the process exists and before
// it becomes `program`; when it fails, or we die in it, the program never runs. Errors: fork's,
// exec's, before_exec's.
absl::StatusOr<Spawned> spawn(const SpawnRequest& request,
                              const std::function<absl::Status(ProcessId)>& before_exec);

// Runs a program to its end and returns its stdout. Errors: as spawn(), DeadlineExceeded (it is
// then killed), ResourceExhausted over 1 MiB, FailedPrecondition when it fails.
absl::StatusOr<std::string> run_and_capture(const std::vector<std::string>& argv, Duration limit);

// The path of `program` in $PATH, or itself when it has a slash. Error: NotFound.
absl::StatusOr<std::string> find_program(const std::string& program);

// Error: NotFound when there is no such process.
absl::StatusOr<uint64_t> process_start_time(pid_t pid);
// A pidfd of exactly this process. Error: NotFound when it has ended.
absl::StatusOr<UniqueFd> open_process(ProcessId id);
// The arguments joined by newlines; empty when the process is gone.
std::string process_command_line(pid_t pid);

bool has_ended(int pidfd);
// Reaps an ended process where it is our child: "exit status 1", "killed by SIGKILL". Nothing when
// it runs, is not our child, or was reaped before.
std::optional<std::string> reap(int pidfd);
// SIGKILL to our child, then reaps it.
void end_child(int pidfd);
absl::Status send_signal(int pidfd, int signal_number);

}  // namespace godwit
