// A deadline that a test which works never reaches.
#pragma once

#include <chrono>

#include "engine/base/clock.h"

namespace godwit {

inline MonotonicTime soon() { return Clock::system().now() + std::chrono::seconds(20); }

}  // namespace godwit
