// The tracker of an outgoing migration, and what the report says of it.
#pragma once

#include "engine/source/context.h"

namespace godwit {

// Which tracker it is, and why.
void name_tracker(const DirtyTracker& tracker, v1::MigrationReport& report);

// Starts the context's tracker and reports which one it became, and its warnings. Errors:
// DirtyTracker::start()'s.
absl::Status start_tracker(SourceContext& context);

}  // namespace godwit
