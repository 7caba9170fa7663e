// RAM files on a mount of their own, and the process that maps and writes them.
#pragma once

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "dirty-tracking/writeprotect/uffd_write_protect_tracker.h"
#include "engine/base/ram_block.h"
#include "tests/unit/dirty-tracking/process/child_program.h"
#include "tests/unit/dirty-tracking/process/private_mount.h"

namespace godwit {

using Pages = std::set<PageIndex>;

class TrackedRam {
  public:
    // One file per size; the writer maps each as a view in this order. `options` of the tmpfs.
    static absl::StatusOr<std::unique_ptr<TrackedRam>> create(const std::string& type,
                                                              const std::string& options,
                                                              const std::vector<Bytes>& sizes);

    absl::StatusOr<std::unique_ptr<UffdWriteProtectTracker>> track(
        WriteProtectOptions options = {}) const {
        return UffdWriteProtectTracker::create(writer->pid(), blocks, {}, std::move(options));
    }
    // Where the writer has a view.
    [[nodiscard]] AddressRange where(size_t view) const;
    [[nodiscard]] PageSet empty_set() const;
    // Sends the command followed by the pages; the answer.
    std::string tell(const std::string& command, const Pages& pages = {}) const;
    std::string map_again(size_t block, Bytes offset, Bytes size, const char* kind = "shared");
    // The pages that one collect() reports for a block.
    static Pages collect(UffdWriteProtectTracker& tracker, PageSet dirty, size_t block = 0);

    PrivateMount mount;
    std::vector<RamBlock> blocks;
    std::unique_ptr<ChildProgram> writer;

  private:
    explicit TrackedRam(PrivateMount m) : mount(std::move(m)) {}
};

// Why trackers can't be tested here; "" when they can.
std::string why_no_tracking();

}  // namespace godwit
