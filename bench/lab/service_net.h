// ServiceNet: the network that a guest with a service is reached by, beside the cable between the
// hosts: a bridge on either host, and a third one with the client's address.
#pragma once

#include <memory>
#include <string>

#include "bench/lab/lab_host.h"
#include "bench/lab/shaped_link.h"
#include "engine/base/status.h"
#include "engine/base/unique_fd.h"

namespace godwit {

// Gone with this process, like the hosts' namespaces. Thread rule: one thread.
class ServiceNet {
  public:
    static constexpr const char* kBridge = "lab";                  // its name on both hosts
    static constexpr const char* kGuestAddress = "10.78.0.10";     // bench/guest/linux/init
    static constexpr const char* kGuestMac = "52:54:00:78:00:10";  // on both hosts

    // Between hosts that have a namespace each. Errors: what ip(8) complains of.
    static absl::StatusOr<std::unique_ptr<ServiceNet>> create(const ShapedLink& link);
    // A descriptor of the client's namespace; it is this object's.
    [[nodiscard]] int client_namespace() const { return client_.get(); }

  private:
    explicit ServiceNet(UniqueFd client) : client_(std::move(client)) {}
    const UniqueFd client_;
};

// A TAP on a bridge of that host, for a QEMU; it vanishes with its last descriptor. Errors: setns's
// and create_tap()'s.
absl::StatusOr<UniqueFd> tap_at(const LabHost& host, const std::string& bridge);

}  // namespace godwit
