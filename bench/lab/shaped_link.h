// ShapedLink: two hosts of a network, on this one: a namespace each and a cable between them that
// carries so many bytes per second in either direction.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bench/lab/lab_host.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"

namespace godwit {

// The namespaces have no names: descriptors of this process hold them, so that the kernel removes
// them with it, however it ends. Thread rule: one thread.
class ShapedLink {
  public:
    // Errors: PermissionDenied without CAP_SYS_ADMIN; what ip(8) and tc(8) complain of.
    static absl::StatusOr<std::unique_ptr<ShapedLink>> create(Bytes bytes_per_s);

    // Programs that run there keep their pids (nsenter becomes them).
    [[nodiscard]] std::array<LabHost, 2> hosts() const;
    // Sent so far by both, with all headers from Ethernet's on. Errors: those of looking.
    [[nodiscard]] absl::StatusOr<double> bytes() const;

  private:
    explicit ShapedLink(std::array<UniqueFd, 2> namespaces) : namespaces_(std::move(namespaces)) {}
    absl::Status lay(Bytes bytes_per_s) const;
    [[nodiscard]] std::string path(int host) const;
    // A program's output. Errors: as of run_and_capture().
    [[nodiscard]] absl::StatusOr<std::string> run(int host, std::vector<std::string> words) const;

    const std::array<UniqueFd, 2> namespaces_;
};

// Received and sent bytes of `device` in the text of /proc/net/dev. Error: NotFound.
absl::StatusOr<double> parse_device_bytes(const std::string& text, const std::string& device);

}  // namespace godwit
