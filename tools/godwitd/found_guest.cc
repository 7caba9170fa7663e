#include "tools/godwitd/found_guest.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/log.h"
#include "engine/source/in_doubt.h"
#include "engine/source/persistent_rollback.h"
#include "tools/godwitd/recovery_report.h"

namespace godwit {
namespace {

constexpr Duration kEndOfQemuLimit = std::chrono::seconds(10);
constexpr const char* kNotEnded = "the source's QEMU could not be ended";

}  // namespace

bool FoundGuest::may_stand() const { return left_alone || (vm && is_guest_here(*vm)); }

void end_stale_qemu(const FoundGuest& guest, v1::MigrationReport& report) {
    if (guest.vm ? guest.vm->kill(kEndOfQemuLimit).ok() : !guest.left_alone) return;
    if (std::find(report.warnings().begin(), report.warnings().end(), kNotEnded) ==
        report.warnings().end())
        report.add_warnings(kNotEnded);
}

absl::Status give_back(const FoundGuest& guest, const v1::JournalRecord& record,
                       const std::string& reason, const std::stop_token& stop,
                       v1::MigrationReport& report) {
    if (!guest.vm) {
        if (guest.left_alone)
            needs_operator(report, reason +
                                       ", and the VM's QEMU could not be adopted: the agent's log "
                                       "says why");
        else
            died(report, reason + ", and the source's QEMU has ended");
        return absl::OkStatus();
    }
    const absl::Status status = roll_back_persistently(
        *guest.vm, record.was_running(), stop, [&](const absl::Status& trouble) {
            spdlog::error("migration {}: the guest is at the source and is not seen to run yet: {}",
                          record.migration_id(), std::string(trouble.message()));
        });
    if (absl::IsCancelled(status)) return status;
    if (status.ok())
        at_source(report, reason);
    else if (absl::IsNotFound(status))
        died(report, reason + "; and its QEMU has ended by itself");
    else
        needs_operator(
            report, fmt::format("{}; and the guest could not be resumed at the source: {}", reason,
                                std::string(status.message())));
    return absl::OkStatus();
}

}  // namespace godwit
