// Making a domain fit to be moved: an edit of its XML that takes itself back.
#pragma once

#include <string>

#include "engine/base/status.h"

namespace godwit {

// The inactive XML with RAM that Godwit can move: <source type='file'/> and <access mode='shared'/>
// in <memoryBacking>. What was there before is kept in the domain's <metadata>. The same text when
// there is nothing to change. Error: InvalidArgument when it is no domain's XML.
absl::StatusOr<std::string> enable_migration(const std::string& xml);
// Puts back what enable_migration() changed. Error: FailedPrecondition when it changed nothing.
absl::StatusOr<std::string> disable_migration(const std::string& xml);

// The lines that differ, "-" and "+" in front, with a line around them. Both are written in one way
// first: quotes and spaces are no difference.
std::string line_diff(const std::string& before, const std::string& after);

}  // namespace godwit
