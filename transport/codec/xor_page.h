// The XOR of two pages: what a delta is made of and applied with. Any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/units.h"

namespace godwit {

using PageBytes = std::span<std::byte, kPageBytes>;
using ConstPageBytes = std::span<const std::byte, kPageBytes>;

// page becomes page XOR kept, kept becomes what page was, in one pass over both. Returns how many
// of the 64 lines of 64 bytes differed.
uint32_t exchange_for_xor(PageBytes page, PageBytes kept);

// page becomes page XOR delta.
void xor_page(PageBytes page, ConstPageBytes delta);

}  // namespace godwit
