// Which boot of this host it is: what was only in the page cache has not survived another.
#pragma once

#include <string>

namespace godwit {

// The kernel's random id of this boot; empty when it can't be read (then no boot differs).
std::string boot_id();

}  // namespace godwit
