// Whether a RAM file's memory can be swapped out.
#pragma once

#include <sys/types.h>

namespace godwit {

// False for hugetlbfs and for a tmpfs that this process sees mounted with noswap (kernel 6.4);
// true for everything else. `device` and `file` are the same file's.
bool can_be_swapped(int file, dev_t device);

}  // namespace godwit
