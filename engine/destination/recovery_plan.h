// What a restarted agent does about a migration that its predecessor had begun as the destination.
#pragma once

#include <functional>
#include <string>

#include "engine/destination/commit_order.h"

namespace godwit {

struct FoundAtDestination {
    const v1::JournalRecord& record;
    std::string boot_id;               // of this boot
    std::function<bool()> has_vm;      // the QEMU that the record is about is here
    std::function<bool()> left_alone;  // without: it may be here, and could not be adopted
    // With `has_vm`: whether an operator has given the guest back to the source, which is asked,
    // and it does not run here.
    std::function<bool()> given_back;
};

enum class DestinationRecovery {
    kAnswer,     // it is final: whoever asks hears what the record says
    kNoAnswer,   // nobody knows enough: a source that is in doubt stays so
    kWasLost,    // the same of a guest that may have run here, and surely does no more
    kEndStale,   // COMMIT never came, or the guest was given back: it will never run here
    kGuestGone,  // COMMIT came, and QEMU has ended since
    kArrived,    // it is here, paused as it was
    kResume,     // it is ours, and `cont` may not have been sent
    kDrain,      // the same, and pages are missing
};

DestinationRecovery plan_destination_recovery(const FoundAtDestination& found);

// kResume: until it runs, for a source that heard RESUMED has let go of its own copy. Ok: it runs.
// NotFound: its QEMU has ended. Cancelled: the agent ends. `trouble` hears why, once per reason.
absl::Status resume_until_it_runs(const std::function<absl::Status()>& resume,
                                  const std::function<bool()>& wait_to_ask_again,
                                  const std::function<void(const absl::Status&)>& trouble);

}  // namespace godwit
