// Text without a library: a bounded line that is built piece by piece.
#pragma once

#include <cstdint>

namespace godwit::guest {

// Cuts what does not fit; always NUL-terminated.
class Line {
  public:
    Line& text(const char* piece) {
        while (*piece != '\0') put(*piece++);
        return *this;
    }
    Line& text(const char* piece, unsigned size) {
        for (unsigned i = 0; i < size; ++i) put(piece[i]);
        return *this;
    }
    Line& number(uint64_t value) {
        char digits[20];
        unsigned count = 0;
        do digits[count++] = static_cast<char>('0' + value % 10);
        while ((value /= 10) != 0);
        while (count > 0) put(digits[--count]);
        return *this;
    }
    Line& hex(uint64_t value) {
        text("0x");
        int shift = 60;
        while (shift > 0 && value >> shift == 0) shift -= 4;
        for (; shift >= 0; shift -= 4) put("0123456789abcdef"[value >> shift & 15]);
        return *this;
    }
    [[nodiscard]] const char* c_str() const { return data_; }
    [[nodiscard]] unsigned size() const { return size_; }

  private:
    void put(char c) {
        if (size_ + 1 >= sizeof data_) return;
        data_[size_++] = c;
        data_[size_] = '\0';
    }
    char data_[256] = {};
    unsigned size_ = 0;
};

}  // namespace godwit::guest
