// ShapedLink: two hosts of a network, on this one: a namespace each and a cable between them that
// carries so many bytes per second in either direction, and takes its time.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <vector>

#include "bench/lab/delay_relay.h"
#include "bench/lab/lab_host.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"
#include "engine/base/units.h"

namespace godwit {

// The namespaces have no names: descriptors of this process hold them, so that the kernel removes
// them with it, however it ends. Thread rule: one thread.
class ShapedLink {
  public:
    // `bytes_per_s` 0: as fast as it goes. `delay`, of one direction: with one, the cable is a
    // relay in this process (DelayRelay) instead of a veth pair. `burst`: bytes that go at once
    // before the rate holds; 0: several of what TCP hands over at once. Errors: PermissionDenied
    // without CAP_SYS_ADMIN; what ip(8) and tc(8) complain of.
    static absl::StatusOr<std::unique_ptr<ShapedLink>> create(Bytes bytes_per_s,
                                                              Duration delay = {}, Bytes burst = 0);

    // Programs that run there keep their pids (nsenter becomes them).
    [[nodiscard]] std::array<LabHost, 2> hosts() const;
    // Sent so far by both, with all headers from Ethernet's on. Errors: those of looking.
    [[nodiscard]] absl::StatusOr<double> bytes() const;
    // TCP segments that either had to send again so far. Errors: as above.
    [[nodiscard]] absl::StatusOr<double> retransmissions() const;

  private:
    explicit ShapedLink(std::array<UniqueFd, 2> namespaces) : namespaces_(std::move(namespaces)) {}
    absl::Status lay(Bytes bytes_per_s, Bytes burst) const;
    [[nodiscard]] absl::Status lay_veth() const;
    absl::Status lay_relay(Bytes bytes_per_s, Duration delay, Bytes burst);
    [[nodiscard]] std::string path(int host) const;
    // A program's output. Errors: as of run_and_capture().
    [[nodiscard]] absl::StatusOr<std::string> run(int host, std::vector<std::string> words) const;

    const std::array<UniqueFd, 2> namespaces_;
    std::unique_ptr<DelayRelay> relay_;  // where there is a delay
};

// A new namespace, which nobody is in; the kernel removes it with its last descriptor. Errors:
// unshare's.
absl::StatusOr<UniqueFd> make_network_namespace();

// Received and sent bytes of `device` in the text of /proc/net/dev. Error: NotFound.
absl::StatusOr<double> parse_device_bytes(const std::string& text, const std::string& device);
// RetransSegs in the text of /proc/net/snmp. Error: NotFound.
absl::StatusOr<double> parse_retransmissions(const std::string& text);

}  // namespace godwit
