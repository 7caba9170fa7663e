// What a page costs when it is punched and copied, and when it is overwritten and continued.
#pragma once

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// Prints a table for 4 KiB and for huge tmpfs.
absl::Status measure_costs(Bytes ram);

}  // namespace godwit
