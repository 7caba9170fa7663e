#include "dirty-tracking/kvm/resident_guest_log.h"

#include <fmt/format.h>

namespace godwit {
namespace {

// Why KVM has QEMU's own mapping of a slot that is RAM; null when it has not.
const char* why_unsplit(const ResidentSlot& slot) {
    switch (slot.kind) {
        case resident::SlotKind::kUnmappable:
            return "it is no single piece of one file";
        case resident::SlotKind::kRefused:
            return "the kernel refused a second view of it";
        case resident::SlotKind::kNotRam:
        case resident::SlotKind::kSplit:
            break;
    }
    return nullptr;
}

std::string warning_of(const ResidentSlot& slot, const char* why) {
    return fmt::format(
        "KVM's log does not follow memory slot {}{} ({} MiB at guest address {:#x}): {}. What "
        "vCPUs "
        "write there is found by uffd-wp, through QEMU's own mapping",
        slot.id,
        slot.address_space == 0 ? "" : fmt::format(" of address space {}", slot.address_space),
        slot.length >> 20, slot.guest_address, why);
}

}  // namespace

absl::StatusOr<std::unique_ptr<ResidentGuestLog>> ResidentGuestLog::connect(
    const std::string& socket_path, pid_t pid, std::span<const RamBlock> blocks) {
    GODWIT_ASSIGN_OR_RETURN(std::unique_ptr<ResidentClient> client,
                            ResidentClient::connect(socket_path, pid));
    GODWIT_ASSIGN_OR_RETURN(const ResidentState state, client->state());
    if (!state.problem.empty())
        return absl::FailedPreconditionError("Cannot use KVM's dirty log: " + state.problem);
    std::unique_ptr<ResidentGuestLog> log(new ResidentGuestLog(std::move(client)));
    for (const RamBlock& block : blocks) log->blocks_.push_back(without_file(block));
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

absl::StatusOr<std::vector<std::string>> ResidentGuestLog::warnings() {
    GODWIT_ASSIGN_OR_RETURN(const std::vector<ResidentSlot> slots, client_->slots());
    std::vector<std::string> warnings;
    for (const ResidentSlot& slot : slots)
        if (const char* why = why_unsplit(slot); why != nullptr)
            warnings.push_back(warning_of(slot, why));
    return warnings;
}

absl::Status ResidentGuestLog::stop() {
    const absl::Status status = client_->stop_log();
    return absl::IsUnavailable(status) ? absl::OkStatus() : status;
}

}  // namespace godwit
