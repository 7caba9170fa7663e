// VcpuThrottle: holds the vCPUs of a running VM back, so that the guest writes less.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <memory>
#include <string>

#include "dirty-tracking/resident/resident_client.h"
#include "engine/base/status.h"

namespace godwit {

// One for a VM. It ends with its object, and with the agent however that ends. A vCPU that is held
// lets go at once when QEMU wants it (to stop the VM, say). Thread-safe.
class VcpuThrottle {
  public:
    virtual ~VcpuThrottle() = default;

    // Keeps every vCPU out of the guest for this share, 1 to 99, of each period (10 ms to 1 min),
    // from now on. Errors: InvalidArgument for other numbers (what was set before stays);
    // FailedPrecondition when somebody else holds the vCPUs back; Unavailable when the connection
    // to QEMU is lost: nothing is held any more.
    virtual absl::Status set(unsigned held_percent,
                             std::chrono::milliseconds period = std::chrono::milliseconds(10)) = 0;

    // Every vCPU goes on at once. Success also when nothing was held.
    virtual absl::Status release() = 0;
};

// By the resident, over a connection of its own: whichever tracker runs, it knows nothing of this.
class ResidentVcpuThrottle final : public VcpuThrottle {
  public:
    // `pid` is QEMU's. Holds nothing yet. Error: FailedPrecondition, with the reason: the VM runs
    // under TCG, or without the resident, or with one of another version, or it is in use.
    static absl::StatusOr<std::unique_ptr<ResidentVcpuThrottle>> connect(
        const std::string& socket_path, pid_t pid);

    absl::Status set(unsigned held_percent,
                     std::chrono::milliseconds period = std::chrono::milliseconds(10)) override;
    absl::Status release() override;

  private:
    explicit ResidentVcpuThrottle(std::unique_ptr<ResidentClient> client)
        : client_(std::move(client)) {}

    std::unique_ptr<ResidentClient> client_;
};

}  // namespace godwit
