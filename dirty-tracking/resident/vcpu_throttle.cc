#include "dirty-tracking/resident/vcpu_throttle.h"

#include <fmt/format.h>

namespace godwit {
namespace {

absl::Status refusal(absl::string_view why) {
    return absl::FailedPreconditionError(
        fmt::format("The vCPUs of this VM can't be held back: {}", std::string(why)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<ResidentVcpuThrottle>> ResidentVcpuThrottle::connect(
    const std::string& socket_path, pid_t pid) {
    absl::StatusOr<std::unique_ptr<ResidentClient>> client =
        ResidentClient::connect(socket_path, pid);
    if (!client.ok()) return refusal(client.status().message());
    const absl::StatusOr<ResidentState> state = (*client)->state();
    if (!state.ok()) return refusal(state.status().message());
    if (!state->has_kvm) return refusal("it runs under TCG, where the resident sees no vCPUs");
    return std::unique_ptr<ResidentVcpuThrottle>(new ResidentVcpuThrottle(*std::move(client)));
}

absl::Status ResidentVcpuThrottle::set(unsigned held_percent, std::chrono::milliseconds period) {
    if (held_percent == 0)
        return absl::InvalidArgumentError("a throttle of 0 percent: release it instead");
    return client_->set_throttle(held_percent, period);
}

absl::Status ResidentVcpuThrottle::release() {
    absl::Status status = client_->set_throttle(0);
    return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

}  // namespace godwit
