// --verify at the source: both sides hash all RAM while the guest is frozen, and compare.
#pragma once

#include "engine/source/context.h"

namespace godwit {

// After LOADED and the source's `completed`, before COMMIT. Fills the report's verify part. Errors:
// DataLoss naming block and page when the memories differ, and everything that a wait may fail
// with.
absl::Status verify_memory(SourceContext& context, MonotonicTime deadline);

}  // namespace godwit
