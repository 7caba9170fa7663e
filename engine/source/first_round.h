// The first round of a migration, which also finds out how many data streams help.
#pragma once

#include "engine/base/page_bitmap.h"
#include "engine/source/context.h"

namespace godwit {

// send_round() for round 0 where AutoStreams has streams to try: in slices until it has settled.
// Each slice ends as a round does, so that a chunk may change its stream after it. Returns what was
// not begun because the round was cut short. Errors: send_round()'s.
absl::StatusOr<PageSet> send_first_round(SourceContext& context, const PageSet& set,
                                         v1::Round& round, MonotonicTime deadline);

}  // namespace godwit
