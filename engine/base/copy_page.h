// copy_page: a page into a frame and its hash, in one pass.
#pragma once

#include <cstddef>

#include "engine/base/hash.h"

namespace godwit {

// Copies the page at `from` (any alignment) to `to` and returns hash_bytes() of what `to` then
// holds, whatever somebody else writes to `from` meanwhile: every byte of it is read once. Hash
// {0, 0} when the page was all zero: then `to` was not written.
//
// With AVX2 it is faster than memcpy of a whole chunk followed by nothing: both wait for memory,
// and the hash is computed meanwhile. Without, it is memcpy and hash_bytes(). The page behind
// `from` is fetched ahead; it need not exist.
Hash128 copy_page(std::byte* to, const std::byte* from);

}  // namespace godwit
