// Making a domain fit to be moved: an edit of its XML that takes itself back.
#pragma once

#include <string>

#include "engine/base/status.h"

namespace godwit {

// QEMU's user must be able to make a socket there; an agent for libvirt makes the directory so.
inline constexpr const char* kResidentDirectory = "/run/godwit/resident";

// The inactive XML with RAM that Godwit can move: <source type='file'/> and <access mode='shared'/>
// in <memoryBacking>. What was there before is kept in the domain's <metadata>. The same text when
// there is nothing to change. Error: InvalidArgument when it is no domain's XML.
absl::StatusOr<std::string> enable_migration(const std::string& xml);
// The same with the resident in its QEMU: `library` is preloaded, and listens at
// <kResidentDirectory>/<uuid>.sock. Error: also FailedPrecondition when something else is
// preloaded.
absl::StatusOr<std::string> enable_resident(const std::string& xml, const std::string& library);
// Puts back what these two changed. Error: FailedPrecondition when they changed nothing.
absl::StatusOr<std::string> disable_migration(const std::string& xml);

// The lines that differ, "-" and "+" in front, with a line around them. Both are written in one way
// first: quotes and spaces are no difference.
std::string line_diff(const std::string& before, const std::string& after);

}  // namespace godwit
