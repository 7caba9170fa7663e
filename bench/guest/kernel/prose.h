// Compressible content: English-like text, made once at boot.
#pragma once

#include <cstdint>

namespace godwit::guest {

// Fills the text with words drawn by `seed`. First vCPU, before any prose_word().
void write_prose(uint64_t seed);
// Eight characters of the text, at a place chosen by `random`.
uint64_t prose_word(uint64_t random);

}  // namespace godwit::guest
