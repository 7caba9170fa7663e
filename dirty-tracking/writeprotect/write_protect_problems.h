// Whether this host can track writes with userfaultfd at all: for preflight.
#pragma once

#include <string>
#include <vector>

namespace godwit {

// One sentence per reason why not, naming the setting or the kernel that is needed; empty when
// it can. Tried on the calling process: nothing else is touched.
std::vector<std::string> write_protect_problems();

}  // namespace godwit
