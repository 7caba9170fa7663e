// Single instructions of the CPU.
#pragma once

#include <cstdint>

namespace godwit::guest {

inline void out8(uint16_t port, uint8_t value) {
    asm volatile("outb %0, %1" ::"a"(value), "Nd"(port));
}
inline void out32(uint16_t port, uint32_t value) {
    asm volatile("outl %0, %1" ::"a"(value), "Nd"(port));
}
inline uint8_t in8(uint16_t port) {
    uint8_t value;
    asm volatile("inb %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}
inline uint32_t in32(uint16_t port) {
    uint32_t value;
    asm volatile("inl %1, %0" : "=a"(value) : "Nd"(port));
    return value;
}

inline uint64_t read_tsc() {
    uint32_t low, high;
    asm volatile("rdtsc" : "=a"(low), "=d"(high));
    return uint64_t{high} << 32 | low;
}

struct CpuidResult {
    uint32_t eax, ebx, ecx, edx;
};
inline CpuidResult cpuid(uint32_t leaf) {
    CpuidResult r;
    asm volatile("cpuid" : "=a"(r.eax), "=b"(r.ebx), "=c"(r.ecx), "=d"(r.edx) : "a"(leaf), "c"(0));
    return r;
}

inline void cpu_pause() { asm volatile("pause"); }
// Sleeps until the timer's next interrupt. From ring 3, where hlt is a protection fault that
// halt_stub in boot.S takes as the request it is.
inline void halt_until_interrupt() { asm volatile("hlt" ::: "memory"); }
// Nothing read before may be reused after: the host may have changed memory meanwhile.
inline void compiler_barrier() { asm volatile("" ::: "memory"); }

[[noreturn]] inline void halt_for_ever() {
    for (;;) halt_until_interrupt();
}

// Memory-mapped registers of devices.
template <typename T>
T mmio_read(uint64_t address) {
    return *reinterpret_cast<volatile T*>(address);
}
template <typename T>
void mmio_write(uint64_t address, T value) {
    *reinterpret_cast<volatile T*>(address) = value;
}

inline uint64_t* words_at(uint64_t address) { return reinterpret_cast<uint64_t*>(address); }

// 64-bit product of which the upper half is kept: scales a random number to [0, bound).
inline uint64_t scale(uint64_t random, uint64_t bound) {
    return static_cast<uint64_t>(static_cast<unsigned __int128>(random) * bound >> 64);
}

}  // namespace godwit::guest
