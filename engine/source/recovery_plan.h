// What a restarted agent does about a migration that its predecessor had begun as the source.
#pragma once

#include <functional>

#include "engine/base/status.h"
#include "engine/handover/decision_word.h"
#include "engine/source/fate.h"
#include "godwit/v1/journal.pb.h"

namespace godwit {

struct FoundAtSource {
    const v1::JournalRecord& record;     // not ENDED, not native
    absl::StatusOr<Verdict> word;        // an error: there is none, or it can't be read
    bool vm = false;                     // the QEMU that the record is about is here
    bool left_alone = false;             // it may be here, and could not be adopted
    std::function<bool()> runs;          // with `vm`: whether the guest runs in it
    std::function<bool()> has_kept_ram;  // opens it, or what `vm` has of it
};

enum class SourceRecovery {
    kWasGivenBack,   // the guest runs here, and rightly
    kIsElsewhere,    // an operator said that it is at the destination
    kIsNowhere,      // an operator said that it is lost with the destination
    kDrain,          // its last pages are sent from the kept RAM
    kAsk,            // only the destination knows
    kNeedsOperator,  // it belongs here, and its QEMU could not be adopted
    kHasDied,        // it belonged here, and its QEMU has ended
    kWasNotFrozen,   // it is here, as its owner has it: nothing of a freeze had begun
    kGiveBack,       // it belongs here, and may be frozen
};

// Whether COMMIT may have been sent, and nothing is known of its answer.
bool may_have_committed(const FoundAtSource& found);
SourceRecovery plan_source_recovery(const FoundAtSource& found);

// As the journal has it.
v1::Resolution resolution_of(Fate fate);

}  // namespace godwit
