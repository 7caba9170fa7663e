#include "dirty-tracking/kvm/resident_guest_log.h"

namespace godwit {

absl::StatusOr<std::unique_ptr<ResidentGuestLog>> ResidentGuestLog::connect(
    const std::string& socket_path, pid_t pid, std::span<const RamBlock> blocks) {
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<ResidentClient> client,
                            ResidentClient::connect(socket_path, pid));
    GODWIT_ASSIGN_OR_RETURN(const ResidentState state, client->state());
    if (!state.problem.empty())
        return absl::FailedPreconditionError("Cannot use KVM's dirty log: " + state.problem);
    std::unique_ptr<ResidentGuestLog> log(new ResidentGuestLog(std::move(client)));
    for (const RamBlock& block : blocks)
        log->blocks_.push_back({.name = block.name,
                                .path = block.path,
                                .size = block.size,
                                .backing = block.backing,
                                .device = block.device,
                                .inode = block.inode});
    return log;
}

absl::StatusOr<std::vector<AddressRange>> ResidentGuestLog::views() {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<ResidentView> views, client_->views());
    std::vector<AddressRange> ranges;
    ranges.reserve(views.size());
    for (const ResidentView& view : views)
        ranges.push_back({view.kvm_address, view.kvm_address + view.length});
    return ranges;
}

absl::Status ResidentGuestLog::stop() {
    const absl::Status status = client_->stop_log();
    return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

}  // namespace godwit
