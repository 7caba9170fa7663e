// The secret that opens a migration's streams.
#pragma once

#include "transport/frame/bodies.h"

namespace godwit {

SessionToken random_token();
// For the streams of a restarted agent: none of its predecessor's has it, as far as chance goes.
uint32_t random_generation();

}  // namespace godwit
