// Whether this host can take a guest in whose pages come later: for preflight.
#pragma once

#include <string>
#include <vector>

namespace godwit {

// One sentence per reason why not, naming the setting or the right that is needed; empty when it
// can. Tried on the calling process: nothing else is touched.
std::vector<std::string> postcopy_problems();

}  // namespace godwit
