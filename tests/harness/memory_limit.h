// A limit to the memory of processes, by a cgroup of version 1 or 2: beyond it the kernel kills.
#pragma once

#include <sys/types.h>

#include <memory>
#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit::testing {

class MemoryLimit {
  public:
    // Error: Unavailable, why it can't be done here.
    static absl::StatusOr<std::unique_ptr<MemoryLimit>> create(Bytes limit);
    // The processes go back, the cgroup is removed.
    ~MemoryLimit();
    MemoryLimit(const MemoryLimit&) = delete;
    MemoryLimit& operator=(const MemoryLimit&) = delete;

    // What `pid` takes from now on counts; what it has stays with the cgroup where it was. Errors:
    // write's.
    [[nodiscard]] absl::Status add(pid_t pid) const;

  private:
    MemoryLimit(std::string parent, std::string group)
        : parent_(std::move(parent)), group_(std::move(group)) {}
    const std::string parent_;
    const std::string group_;
};

}  // namespace godwit::testing
