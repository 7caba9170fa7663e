#include "engine/base/printable.h"

#include <algorithm>

namespace godwit {
namespace {

unsigned byte_at(std::string_view text, size_t index) {
    return index < text.size() ? static_cast<unsigned char>(text[index]) : 0;
}

struct SecondByte {
    unsigned least = 0x80;
    unsigned most = 0xbf;
};

// Narrower where a shorter form, a surrogate or a number beyond the last would begin.
SecondByte second_byte_after(unsigned first) {
    switch (first) {
        case 0xe0:
            return {.least = 0xa0};
        case 0xed:
            return {.most = 0x9f};
        case 0xf0:
            return {.least = 0x90};
        case 0xf4:
            return {.most = 0x8f};
        default:
            return {};
    }
}

size_t announced_bytes(unsigned first) {
    if (first < 0x80) return 1;
    if (first < 0xc2) return 0;
    if (first < 0xe0) return 2;
    if (first < 0xf0) return 3;
    return first < 0xf5 ? 4 : 0;
}

// Bytes of the character at the front; 0: there is none.
size_t character_bytes(std::string_view text) {
    const unsigned first = byte_at(text, 0);
    const size_t size = announced_bytes(first);
    if (size < 2) return size;
    const SecondByte bounds = second_byte_after(first);
    if (byte_at(text, 1) < bounds.least || byte_at(text, 1) > bounds.most) return 0;
    for (size_t i = 2; i < size; ++i)
        if ((byte_at(text, i) & 0xc0) != 0x80) return 0;
    return size;
}

// U+0000 to U+001F, U+007F, and U+0080 to U+009F, which some terminals obey as well.
bool is_control(std::string_view character) {
    const unsigned first = byte_at(character, 0);
    return first < 0x20 || first == 0x7f || (first == 0xc2 && byte_at(character, 1) < 0xa0);
}

}  // namespace

std::string printable(std::string_view text, size_t most_bytes) {
    std::string clean;
    while (!text.empty()) {
        const size_t size = character_bytes(text);
        const bool shown = size > 0 && !is_control(text.substr(0, size));
        const std::string_view written = shown ? text.substr(0, size) : "?";
        if (clean.size() + written.size() > most_bytes) break;
        clean += written;
        text.remove_prefix(std::max<size_t>(size, 1));
    }
    return clean;
}

}  // namespace godwit
