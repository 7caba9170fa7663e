// What somebody else wrote, fit for our log, a terminal and a message that has to be read again.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace godwit {

// An error with its cause, not a log.
inline constexpr size_t kMostPrintableBytes = 4096;

// The text as UTF-8 (RFC 3629), with '?' for each control character, so that it can't draw on a
// terminal nor write lines of its own into a log, and for each byte that belongs to no character:
// protobuf does not read a message with such a string, nor JSON. Cut where it would be longer than
// `most_bytes`, between two characters.
std::string printable(std::string_view text, size_t most_bytes = kMostPrintableBytes);

}  // namespace godwit
