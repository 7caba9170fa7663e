// UUIDs of VMs, which people write in more than one way.
#pragma once

#include <string>

namespace godwit {

// What two ways of writing one UUID have in common, as libvirt reads them: case and hyphens are as
// they please. Empty: it is none.
std::string uuid_digits(const std::string& text);

}  // namespace godwit
