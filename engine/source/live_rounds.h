// The live rounds of pre-copy: send what was written while the guest runs, until the rest is small.
#pragma once

#include "engine/base/page_bitmap.h"
#include "engine/model/convergence.h"
#include "engine/source/context.h"

namespace godwit {

// What is left when the rounds end.
struct LiveResult {
    PageSet rest;  // still dirty, or to be read again after the next drain
    uint32_t next_round = 0;
    Decision decision;  // kSwitch or kStopAndCopy
};

// Starts the tracker, sends round 0 (allocated extents) and dirty rounds. Errors: the tracker's,
// the streams', Cancelled, NotFound (the guest died), FailedPrecondition when it gives up because
// the guest writes too fast. After an error the guest runs at the source; the tracker may be armed.
absl::StatusOr<LiveResult> run_live_rounds(SourceContext& context);

// Sends `set` and waits until the destination has confirmed all of it. Fills everything of `round`
// but what the policy adds, and adds to the report's page counts.
absl::Status send_round(SourceContext& context, const PageSet& set, v1::Round& round,
                        GuestState guest, MonotonicTime deadline);

}  // namespace godwit
