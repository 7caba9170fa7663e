// What a restarted agent finds here of the guest of a migration that its predecessor had begun as
// the source, and what it does with that.
#pragma once

#include <memory>
#include <stop_token>
#include <string>

#include "engine/guest/hypervisor.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

// As it was found: whatever has its name later is another.
struct FoundGuest {
    std::shared_ptr<Vm> vm;   // none: its QEMU has ended, or could not be adopted
    bool left_alone = false;  // it could not be adopted, and may be here

    // Whether its QEMU has not ended, or may not have. Never blocks.
    [[nodiscard]] bool may_stand() const;
};

// Nobody may start a second guest from it.
void end_stale_qemu(const FoundGuest& guest, v1::MigrationReport& report);

// It belongs to the source, for that reason, and may be frozen. Ok: the report is final; it says
// also where there is nothing to be given back. Errors: Cancelled (the agent ends first).
absl::Status give_back(const FoundGuest& guest, const v1::JournalRecord& record,
                       const std::string& reason, const std::stop_token& stop,
                       v1::MigrationReport& report);

}  // namespace godwit
