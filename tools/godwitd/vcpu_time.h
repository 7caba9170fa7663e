// How busy the vCPUs of a guest are: whether it rests while it is watched.
#pragma once

#include <sys/types.h>

#include <span>
#include <string>

#include "engine/base/status.h"

namespace godwit {

// CPU seconds of a line of /proc/PID/task/TID/stat, a guest's own among them. Error: Internal for
// another line.
absl::StatusOr<double> parse_thread_cpu_s(const std::string& line, double ticks_per_s);

// Of these threads together, since they began. Error: NotFound, where one has ended.
absl::StatusOr<double> threads_cpu_s(pid_t pid, std::span<const pid_t> threads);

}  // namespace godwit
