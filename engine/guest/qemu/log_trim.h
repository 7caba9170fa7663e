// Keeping a log that somebody else appends to from growing without end.
#pragma once

#include <string>

#include "engine/base/units.h"

namespace godwit {

// A log beyond kMaxLogBytes loses its oldest part and keeps about kKeptLogBytes (all of it where
// the file system can't cut from the front, as tmpfs). The writer must append (O_APPEND). A log
// that is not there, or can't be opened, is left alone.
void trim_log(const std::string& path);

inline constexpr Bytes kMaxLogBytes = Bytes{16} << 20;
inline constexpr Bytes kKeptLogBytes = Bytes{4} << 20;

}  // namespace godwit
