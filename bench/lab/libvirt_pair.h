// LibvirtPair: two libvirts on this machine, each on a host of its own.
#pragma once

#include <array>
#include <optional>
#include <string>
#include <vector>

#include "bench/lab/child.h"
#include "bench/lab/cpu_time.h"
#include "bench/lab/lab_host.h"

namespace godwit {

// Everything of it, QEMUs too, lives in one process namespace, which the kernel ends with this
// process, however that ends. Their files and mounts are in mount namespaces of their own. Thread
// rule: one thread.
class LibvirtPair {
  public:
    struct Options {
        std::string directory;  // short: unix socket paths have 108 bytes
        std::string qemu;
        int cancel_fd = -1;
        std::array<LabHost, 2> hosts;
    };
    explicit LibvirtPair(Options options) : options_(std::move(options)) {}
    ~LibvirtPair();
    LibvirtPair(const LibvirtPair&) = delete;
    LibvirtPair& operator=(const LibvirtPair&) = delete;

    // Starts both unless that was tried before, and has them look at the QEMU, which takes a
    // second. Errors: Unimplemented without libvirtd and virsh; what a libvirtd says when it does
    // not start.
    absl::Status start();
    [[nodiscard]] const std::string& directory() const { return options_.directory; }
    // `virsh WORDS…` at a host, begun. Errors: Child's.
    [[nodiscard]] absl::StatusOr<Child> begin(int which,
                                              const std::vector<std::string>& words) const;
    // The same to its end: its stdout. Errors: FailedPrecondition with what virsh says;
    // DeadlineExceeded, Cancelled: it is then killed.
    [[nodiscard]] absl::StatusOr<std::string> run(int which, const std::vector<std::string>& words,
                                                  Duration limit) const;
    // How the source's virsh reaches the destination's libvirt.
    [[nodiscard]] std::string destination_uri() const;
    // Pids of QEMUs that run `domain`, the source's and the destination's.
    [[nodiscard]] std::vector<pid_t> qemus_of(const std::string& domain) const;
    // Of both libvirts and all QEMUs that they run or ran. Errors: those of reading /proc.
    [[nodiscard]] absl::StatusOr<CpuSeconds> cpu() const { return cpu_of_family(init_); }

  private:
    absl::Status start_all();
    absl::Status start_namespace();
    absl::Status start_host(int which);
    [[nodiscard]] std::string root(int which) const;
    // Waits until `there` says so. Errors: DeadlineExceeded, Cancelled.
    template <typename There>
    absl::Status await(There there, const char* what) const;

    const Options options_;
    std::optional<absl::Status> started_;
    std::optional<Child> holder_;  // of the process namespace
    pid_t init_ = -1;              // its first process
    std::array<std::optional<Child>, 2> mounts_;
    std::array<pid_t, 2> mounts_pids_{};  // who is in the mount namespaces
};

}  // namespace godwit
