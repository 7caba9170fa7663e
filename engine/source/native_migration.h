// A VM that Godwit can't move, moved by its hypervisor with our progress and report around it.
#pragma once

#include <string>

#include "engine/source/context.h"

namespace godwit {

// Fills the report: engine "native", where the guest is, and what the hypervisor says of its
// downtime. A cancel aborts it; one that comes too late is told by a guest at the destination.
// `why`: what kept Godwit from it.
void migrate_natively(SourceContext& context, const std::string& why);

}  // namespace godwit
