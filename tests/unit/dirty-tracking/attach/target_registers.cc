#include <cstddef>
#include <cstring>

#include "tests/unit/dirty-tracking/attach/target_modes.h"

namespace godwit {
namespace {

struct alignas(64) Registers {
    uint64_t general[10];
    uint64_t masks[3];
    uint64_t padding[3];
    uint8_t vectors[32][64];
};
static_assert(offsetof(Registers, masks) == 80 && offsetof(Registers, vectors) == 128);

#define GODWIT_EACH_8(op, a, b, c, d, e, f, g, h) op(a) op(b) op(c) op(d) op(e) op(f) op(g) op(h)
#define GODWIT_EACH_16(op)                    \
    GODWIT_EACH_8(op, 0, 1, 2, 3, 4, 5, 6, 7) \
    GODWIT_EACH_8(op, 8, 9, 10, 11, 12, 13, 14, 15)
#define GODWIT_EACH_32(op)                            \
    GODWIT_EACH_16(op)                                \
    GODWIT_EACH_8(op, 16, 17, 18, 19, 20, 21, 22, 23) \
    GODWIT_EACH_8(op, 24, 25, 26, 27, 28, 29, 30, 31)
#define GODWIT_LOAD_Z(n) "vmovdqu64 128+64*" #n "(%%rax), %%zmm" #n "\n"
#define GODWIT_STORE_Z(n) "vmovdqu64 %%zmm" #n ", 128+64*" #n "(%%rdx)\n"
#define GODWIT_LOAD_Y(n) "vmovdqu 128+64*" #n "(%%rax), %%ymm" #n "\n"
#define GODWIT_STORE_Y(n) "vmovdqu %%ymm" #n ", 128+64*" #n "(%%rdx)\n"
#define GODWIT_LOAD_X(n) "movdqu 128+64*" #n "(%%rax), %%xmm" #n "\n"
#define GODWIT_STORE_X(n) "movdqu %%xmm" #n ", 128+64*" #n "(%%rdx)\n"
#define GODWIT_LOAD_GENERAL                                                \
    "mov 0(%%rax), %%r8\n mov 8(%%rax), %%r9\n mov 16(%%rax), %%r10\n"     \
    "mov 24(%%rax), %%r11\n mov 32(%%rax), %%r12\n mov 40(%%rax), %%r13\n" \
    "mov 48(%%rax), %%r14\n mov 56(%%rax), %%r15\n mov 64(%%rax), %%rsi\n" \
    "mov 72(%%rax), %%rdi\n"
#define GODWIT_STORE_GENERAL                                               \
    "mov %%r8, 0(%%rdx)\n mov %%r9, 8(%%rdx)\n mov %%r10, 16(%%rdx)\n"     \
    "mov %%r11, 24(%%rdx)\n mov %%r12, 32(%%rdx)\n mov %%r13, 40(%%rdx)\n" \
    "mov %%r14, 48(%%rdx)\n mov %%r15, 56(%%rdx)\n mov %%rsi, 64(%%rdx)\n" \
    "mov %%rdi, 72(%%rdx)\n"
// 128 bytes below the stack pointer (the red zone) are the program's: whoever writes there from
// outside changes what comes back.
#define GODWIT_SPIN                                 \
    "sub $256, %%rsp\n"                             \
    "mov %%r8, -8(%%rsp)\n mov %%r9, -128(%%rsp)\n" \
    "1: dec %%rcx\n jnz 1b\n"                       \
    "mov -8(%%rsp), %%r8\n mov -128(%%rsp), %%r9\n" \
    "lea 256(%%rsp), %%rsp\n"
#define GODWIT_CLOBBERS                                                                           \
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rsi", "rdi", "memory", "cc", "xmm0",   \
        "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", \
        "xmm12", "xmm13", "xmm14", "xmm15"

__attribute__((target("avx512f,avx512bw"), noinline)) void spin_avx512(const Registers& in,
                                                                       Registers& out,
                                                                       uint64_t count) {
    asm volatile(GODWIT_LOAD_GENERAL GODWIT_EACH_32(GODWIT_LOAD_Z)
                 "kmovq 80(%%rax), %%k1\n kmovq 88(%%rax), %%k2\n kmovq 96(%%rax), %%k7\n"
                 GODWIT_SPIN GODWIT_EACH_32(GODWIT_STORE_Z)
                 "kmovq %%k1, 80(%%rdx)\n kmovq %%k2, 88(%%rdx)\n kmovq %%k7, 96(%%rdx)\n"
                 GODWIT_STORE_GENERAL "vzeroupper\n"
                 : "+c"(count)
                 : "a"(&in), "d"(&out)
                 : GODWIT_CLOBBERS, "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
                   "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31",
                   "k1", "k2", "k7");
}

__attribute__((target("avx"), noinline)) void spin_avx(const Registers& in, Registers& out,
                                                       uint64_t count) {
    asm volatile(GODWIT_LOAD_GENERAL GODWIT_EACH_16(GODWIT_LOAD_Y)
                     GODWIT_SPIN GODWIT_EACH_16(GODWIT_STORE_Y) GODWIT_STORE_GENERAL "vzeroupper\n"
                 : "+c"(count)
                 : "a"(&in), "d"(&out)
                 : GODWIT_CLOBBERS);
}

__attribute__((noinline)) void spin_sse(const Registers& in, Registers& out, uint64_t count) {
    asm volatile(GODWIT_LOAD_GENERAL GODWIT_EACH_16(GODWIT_LOAD_X)
                     GODWIT_SPIN GODWIT_EACH_16(GODWIT_STORE_X) GODWIT_STORE_GENERAL
                 : "+c"(count)
                 : "a"(&in), "d"(&out)
                 : GODWIT_CLOBBERS);
}

const char* compare(const Registers& in, const Registers& out, size_t vectors, size_t width,
                    bool masks) {
    if (std::memcmp(in.general, out.general, sizeof in.general) != 0)
        return "a general register or the red zone changed";
    for (size_t i = 0; i < vectors; ++i)
        if (std::memcmp(in.vectors[i], out.vectors[i], width) != 0)
            return "a vector register changed";
    if (masks && std::memcmp(in.masks, out.masks, sizeof in.masks) != 0)
        return "a mask register changed";
    return nullptr;
}

}  // namespace

const char* spin_with_full_registers(uint64_t iterations) {
    Registers in{};
    Registers out{};
    auto* bytes = reinterpret_cast<uint8_t*>(&in);
    for (size_t i = 0; i < sizeof in; ++i) bytes[i] = static_cast<uint8_t>(i * 37 + i / 256 + 11);
    // Not the default: round up, as a sign that the control word comes back too.
    constexpr unsigned kRoundUp = 0x5f80;
    unsigned control = kRoundUp;
    asm volatile("ldmxcsr %0" : : "m"(control));
    const char* wrong = nullptr;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")) {
        spin_avx512(in, out, iterations);
        wrong = compare(in, out, 32, 64, true);
    } else if (__builtin_cpu_supports("avx")) {
        spin_avx(in, out, iterations);
        wrong = compare(in, out, 16, 32, false);
    } else {
        spin_sse(in, out, iterations);
        wrong = compare(in, out, 16, 16, false);
    }
    asm volatile("stmxcsr %0" : "=m"(control));
    constexpr unsigned kExceptionFlags = 0x3f;
    if ((control & ~kExceptionFlags) != kRoundUp) return "the vector control word changed";
    return wrong;
}

}  // namespace godwit
