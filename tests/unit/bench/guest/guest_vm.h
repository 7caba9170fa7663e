// GuestVm: the test guest in a real QEMU, for the length of one test.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "bench/guest/mailbox_reader.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"

namespace godwit {

// A path in /dev/shm that no other test of this machine uses; removed by its owner.
class ShmPath {
  public:
    explicit ShmPath(const std::string& suffix);
    ShmPath(const ShmPath&) = delete;
    ShmPath& operator=(const ShmPath&) = delete;
    ~ShmPath();
    [[nodiscard]] const std::string& str() const { return path_; }

  private:
    std::string path_;
};

struct GuestVmOptions {
    std::string accel;
    std::string machine = "q35";
    std::string memory = "256M";
    int vcpu_count = 1;
    bool seabios =
        false;  // rather than qboot, which boots 20 times faster under an interpreting KVM
    std::string command_line;
    std::vector<std::string> arguments;  // more of QEMU's
};

// Empty when this machine can run guests under `accel`, else why not.
std::string why_not(const std::string& accel);

class GuestVm {
  public:
    static absl::StatusOr<std::unique_ptr<GuestVm>> start(const GuestVmOptions& options);
    // Kills QEMU, by its pid, and removes the RAM file.
    ~GuestVm();

    // Reads the mailbox until `done` says so. Errors: DeadlineExceeded, with the serial output;
    // Aborted when QEMU ended.
    absl::StatusOr<Mailbox> wait_for(const std::function<bool(const Mailbox&)>& done);
    absl::StatusOr<Mailbox> wait_until_running();

    // Stops (continues) QEMU with all its threads, so that several writes to RAM are one to the
    // guest.
    void freeze() const;
    void thaw() const;

    // At an offset in the RAM file. `page` is resized to one page.
    absl::Status read_page(uint64_t offset, std::vector<char>& page) const;
    absl::Status write(uint64_t offset, std::span<const char> bytes) const;
    [[nodiscard]] std::string serial() const;
    [[nodiscard]] const std::string& ram_path() const { return ram_.str(); }

  private:
    GuestVm() : ram_("ram") {}
    absl::Status spawn(const GuestVmOptions& options);

    ShmPath ram_;
    UniqueFd output_;  // a memfd with QEMU's stdout and stderr
    UniqueFd ram_file_;
    UniqueFd pid_fd_;
    pid_t pid_ = -1;
};

}  // namespace godwit
