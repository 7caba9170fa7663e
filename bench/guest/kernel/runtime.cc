// What the compiler may call although there is no C library.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, size_t size) {
    void* out = to;
    asm volatile("rep movsb" : "+D"(out), "+S"(from), "+c"(size)::"memory");
    return to;
}

void* memset(void* to, int value, size_t size) {
    void* out = to;
    asm volatile("rep stosb" : "+D"(out), "+c"(size) : "a"(value) : "memory");
    return to;
}

void* memmove(void* to, const void* from, size_t size) {
    auto* out = static_cast<volatile unsigned char*>(to);
    auto* in = static_cast<const volatile unsigned char*>(from);
    if (out < in) return memcpy(to, from, size);
    while (size-- > 0) out[size] = in[size];
    return to;
}

int memcmp(const void* a, const void* b, size_t size) {
    auto* left = static_cast<const volatile unsigned char*>(a);
    auto* right = static_cast<const volatile unsigned char*>(b);
    for (size_t i = 0; i < size; ++i)
        if (left[i] != right[i]) return left[i] < right[i] ? -1 : 1;
    return 0;
}
}
