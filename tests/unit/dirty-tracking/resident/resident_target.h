// kvm_target with the resident in it, RAM files, and the socket between.
#pragma once

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "dirty-tracking/resident/resident_client.h"
#include "engine/base/ram_block.h"
#include "engine/base/unique_fd.h"
#include "tests/unit/dirty-tracking/process/child_program.h"
#include "tests/unit/dirty-tracking/process/private_mount.h"

namespace godwit {

using Pages = std::set<PageIndex>;

struct ResidentTargetOptions {
    std::vector<Bytes> ram{kChunkBytes * 2};         // a file for each; view i is file i
    std::vector<std::string> arguments{"manual=3"};  // kvm_target's
    std::string mount_type = "tmpfs";
    std::string mount_options = "size=4G,huge=never";  // of the mount
    std::string preload = GODWIT_RESIDENT_LIBRARY;     // "": none
};

// The socket is in a directory of its own, removed by the destructor.
class ResidentTarget {
  public:
    static absl::StatusOr<std::unique_ptr<ResidentTarget>> start(
        const ResidentTargetOptions& options = {});
    ~ResidentTarget();
    ResidentTarget(const ResidentTarget&) = delete;
    ResidentTarget& operator=(const ResidentTarget&) = delete;

    // Sends the command followed by the numbers; the answer.
    std::string tell(const std::string& command, const Pages& numbers = {}) const;
    // A slot on pages of a view, at guest page `guest_page`.
    std::string slot(uint32_t id, PageIndex guest_page, size_t view, PageRange pages,
                     uint32_t flags = 0) const;
    std::string remove_slot(uint32_t id) const;
    // The vCPU writes these guest pages.
    std::string write(const Pages& guest_pages, unsigned vcpu = 0) const;

    absl::StatusOr<std::unique_ptr<ResidentClient>> connect() const {
        return ResidentClient::connect(socket_path, program->pid());
    }
    [[nodiscard]] PageSet empty_set() const;
    // What one collect() reports for a block.
    Pages collect(ResidentClient& client, size_t block = 0) const;
    // Every page of every block.
    absl::Status rearm_all(ResidentClient& client) const;

    PrivateMount mount;
    std::vector<RamBlock> blocks;
    std::string socket_path;
    std::unique_ptr<ChildProgram> program;

  private:
    explicit ResidentTarget(PrivateMount m) : mount(std::move(m)) {}
    absl::Status make_ram(const std::vector<Bytes>& sizes);
    absl::StatusOr<UniqueFd> listen();
    std::string directory_;
};

// Why nothing of this can be tested here; "" when it can.
std::string why_no_resident();

// {first, …, first + count - 1}
Pages range_of(PageIndex first, uint64_t count);
// The pages of a set, moved up.
Pages moved(const Pages& pages, PageIndex by);

}  // namespace godwit
