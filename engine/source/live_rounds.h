// The live rounds of pre-copy: send what was written while the guest runs, until the rest is small.
#pragma once

#include "engine/base/page_bitmap.h"
#include "engine/model/convergence.h"
#include "engine/source/context.h"

namespace godwit {

// What is left when the rounds end.
struct LiveResult {
    PageSet rest;    // still dirty, left out, or to be read again after the next drain
    PageSet recent;  // of these, what was written lately: it will be again
    // Of the rest, what a disk may be writing still: to be read once more whatever was sent of it.
    // No bitmaps where no disk is followed.
    PageSet unsettled;
    uint32_t next_round = 0;
    Decision decision;  // kSwitch, kStopAndCopy or kPostcopy
};

// Starts the tracker, sends round 0 (allocated extents) and dirty rounds; for the strategies
// without live rounds everything allocated is the rest. Errors: the tracker's, the streams',
// Cancelled, NotFound (the guest died), FailedPrecondition when it gives up because the guest
// writes too fast. After an error the guest runs at the source; the tracker may be armed.
absl::StatusOr<LiveResult> run_live_rounds(SourceContext& context);

// No page, of blocks like these.
PageSet empty_set(std::span<const RamBlock> blocks);

// Every page that a RAM file holds.
absl::StatusOr<PageSet> allocated_set(std::span<const RamBlock> blocks);

// Pages of a round that come before and after a part of it.
struct RoundPart {
    uint64_t before = 0;
    uint64_t after = 0;
};

// Sends `set` (of its punches, only that they are stale) and waits until the destination has
// confirmed all of it. Fills everything of `round` but what the policy adds, and adds to the
// report's page counts.
absl::Status send_round(SourceContext& context, const PageSet& set, v1::Round& round,
                        GuestState guest, MonotonicTime deadline,
                        RoundKind kind = RoundKind::kPages, const RoundPart& part = {});

// After send_round(): what of it came damaged to the destination, to be sent again; the sender
// takes nothing for granted there. Counted in the report. Empty bitmaps where all was well.
PageSet take_damaged(SourceContext& context);

}  // namespace godwit
