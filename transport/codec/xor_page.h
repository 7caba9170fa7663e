// The XOR of two pages: what a delta is made of and applied with. Any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "engine/base/units.h"

namespace godwit {

using PageBytes = std::span<std::byte, kPageBytes>;
using ConstPageBytes = std::span<const std::byte, kPageBytes>;

// How many of a page's 64 lines of 64 bytes differ.
uint32_t count_changed_lines(ConstPageBytes a, ConstPageBytes b);

// page becomes page XOR kept, kept becomes what page was: one pass over both.
void exchange_for_xor(PageBytes page, PageBytes kept);

// page becomes page XOR delta.
void xor_page(PageBytes page, ConstPageBytes delta);

}  // namespace godwit
