// Slows down what QEMU reads from the disk under a file: by a blkio cgroup, of version 1 or 2.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "engine/base/status.h"

namespace godwit::testing {

// A QEMU's own throttle would not do: it holds a request back before any page is pinned for it.
class DiskThrottle {
  public:
    // For the disk that holds `file`, which must exist. Error: Unavailable, why it can't be done
    // here (no O_DIRECT on that file system, no disk under it, no such cgroup).
    static absl::StatusOr<std::unique_ptr<DiskThrottle>> create(const std::string& file,
                                                                uint64_t read_bytes_per_s);
    // The processes go back, the cgroup is removed.
    ~DiskThrottle();
    DiskThrottle(const DiskThrottle&) = delete;
    DiskThrottle& operator=(const DiskThrottle&) = delete;

    // From now on `pid` reads no faster than that. Errors: write's.
    absl::Status add(pid_t pid);

  private:
    DiskThrottle(std::string parent, std::string group)
        : parent_(std::move(parent)), group_(std::move(group)) {}
    std::string parent_;
    std::string group_;
};

}  // namespace godwit::testing
