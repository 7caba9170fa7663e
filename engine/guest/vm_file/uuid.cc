#include "engine/guest/vm_file/uuid.h"

#include <cctype>

namespace godwit {

std::string uuid_digits(const std::string& text) {
    std::string digits;
    for (const char c : text) {
        if (c == '-') continue;
        const auto letter = static_cast<unsigned char>(c);
        if (std::isxdigit(letter) == 0) return {};
        digits += static_cast<char>(std::tolower(letter));
    }
    return digits.size() == 32 ? digits : std::string();
}

}  // namespace godwit
