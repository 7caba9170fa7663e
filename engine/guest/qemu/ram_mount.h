// The agent's own mounts for guest RAM: <state>/ram-thp, ram-4k and ram-hugetlb-2M.
#pragma once

#include <mutex>
#include <string>

#include "engine/base/ram_block.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "godwit/v1/vm.pb.h"

namespace godwit {

Backing backing_of(v1::MemoryBacking backing);

// Thread-safe. A mount is made when it is first needed and found again by a restarted agent; huge
// pages then need no setting of the host (DESIGN section 11).
class RamMounts {
  public:
    explicit RamMounts(std::string state_dir) : state_dir_(std::move(state_dir)) {}

    // Creates a RAM file of `size` bytes (mode 0600, all hole) on the mount of its kind. Errors:
    // mount's (PermissionDenied without CAP_SYS_ADMIN), AlreadyExists, ResourceExhausted.
    absl::Status create_file(v1::MemoryBacking backing, const std::string& path, Bytes size);
    // Where a file of that name goes, whether or not the mount exists.
    [[nodiscard]] std::string file_path(v1::MemoryBacking backing,
                                        const std::string& file_name) const;
    // Unmounts those that hold no file, and removes their mount points. One that is in use stays.
    void release_unused();

  private:
    [[nodiscard]] std::string directory(v1::MemoryBacking backing) const;
    absl::Status mount_if_needed(v1::MemoryBacking backing);

    const std::string state_dir_;
    std::mutex mutex_;  // mounting and creating are one step against release_unused()
};

// Whether that many bytes of free 2 MiB huge pages are left. Error: FailedPrecondition otherwise.
absl::Status check_free_huge_pages(Bytes bytes);

// Makes the whole file a hole again. Errors: fallocate's.
absl::Status punch_all(const RamBlock& block);

}  // namespace godwit
