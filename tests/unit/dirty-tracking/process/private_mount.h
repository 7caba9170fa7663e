// Mounts that only this process and its children see, and that end with them.
#pragma once

#include <string>

#include "engine/base/status.h"

namespace godwit {

// A file system of its own on an empty directory, in a mount namespace of this process's own.
// Unmounted and removed by the destructor.
class PrivateMount {
  public:
    // `type` is tmpfs or hugetlbfs. Errors: PermissionDenied without root; mount's own.
    static absl::StatusOr<PrivateMount> create(const std::string& type, const std::string& options);
    PrivateMount(PrivateMount&& other) noexcept : path_(std::move(other.path_)) {
        other.path_.clear();
    }
    PrivateMount& operator=(PrivateMount&&) = delete;
    PrivateMount(const PrivateMount&) = delete;
    PrivateMount& operator=(const PrivateMount&) = delete;
    ~PrivateMount();

    [[nodiscard]] const std::string& path() const { return path_; }

  private:
    explicit PrivateMount(std::string path) : path_(std::move(path)) {}
    std::string path_;
};

}  // namespace godwit
