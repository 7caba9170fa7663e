// Makes the raw disk images that the test guest can check (disk_format.h).
#pragma once

#include <string>

#include "engine/base/status.h"
#include "engine/base/units.h"

namespace godwit {

// Writes the image of `size` bytes at `path`, replacing what was there. Errors: InvalidArgument
// when size is no multiple of 4 KiB or under 8 KiB; open's and write's, an incomplete file then
// stays.
absl::Status make_disk_image(const std::string& path, Bytes size, uint64_t seed);

}  // namespace godwit
