#include <cstring>

#include "tests/unit/dirty-tracking/attach/target_modes.h"

namespace godwit {
namespace {

struct alignas(64) Registers {
    uint64_t general[10];
    uint8_t vectors[32][64];
    uint64_t masks[8];
};

void fill(Registers& registers) {
    auto* bytes = reinterpret_cast<uint8_t*>(&registers);
    for (size_t i = 0; i < sizeof registers; ++i) bytes[i] = static_cast<uint8_t>(i * 37 + 11);
}

// rbx and rbp stay the compiler's; rcx counts, rax and rdx point.
#define GODWIT_LOAD_GENERAL                                                             \
    "mov 0(%%rax), %%r8\n mov 8(%%rax), %%r9\n mov 16(%%rax), %%r10\n"                  \
    "mov 24(%%rax), %%r11\n mov 32(%%rax), %%r12\n mov 40(%%rax), %%r13\n"              \
    "mov 48(%%rax), %%r14\n mov 56(%%rax), %%r15\n mov 64(%%rax), %%rsi\n"              \
    "mov 72(%%rax), %%rdi\n"
#define GODWIT_STORE_GENERAL                                                            \
    "mov %%r8, 0(%%rdx)\n mov %%r9, 8(%%rdx)\n mov %%r10, 16(%%rdx)\n"                  \
    "mov %%r11, 24(%%rdx)\n mov %%r12, 32(%%rdx)\n mov %%r13, 40(%%rdx)\n"              \
    "mov %%r14, 48(%%rdx)\n mov %%r15, 56(%%rdx)\n mov %%rsi, 64(%%rdx)\n"              \
    "mov %%rdi, 72(%%rdx)\n"
// The red zone of a leaf function belongs to the program, whoever writes below the stack.
#define GODWIT_SPIN                                                                     \
    "mov %%r8, -8(%%rsp)\n mov %%r9, -128(%%rsp)\n"                                     \
    "1: dec %%rcx\n jnz 1b\n"                                                           \
    "mov -8(%%rsp), %%r8\n mov -128(%%rsp), %%r9\n"
#define GODWIT_GENERAL_CLOBBERS \
    "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "rsi", "rdi", "memory", "cc"

__attribute__((target("avx512f,avx512bw"), noinline)) void spin_avx512(const Registers& in,
                                                                       Registers& out,
                                                                       uint64_t count) {
    asm volatile(
        "sub $256, %%rsp\n" GODWIT_LOAD_GENERAL
        ".altmacro\n .macro godwit_load_z n\n vmovdqu64 80+48+64*\\n(%%rax), %%zmm\\n\n .endm\n"
        ".set i, 0\n .rept 32\n godwit_load_z %%i\n .set i, i+1\n .endr\n .purgem godwit_load_z\n"
        "kmovq 2176(%%rax), %%k1\n kmovq 2184(%%rax), %%k2\n kmovq 2192(%%rax), %%k7\n"
        GODWIT_SPIN
        ".macro godwit_store_z n\n vmovdqu64 %%zmm\\n, 80+48+64*\\n(%%rdx)\n .endm\n"
        ".set i, 0\n .rept 32\n godwit_store_z %%i\n .set i, i+1\n .endr\n .purgem godwit_store_z\n"
        "kmovq %%k1, 2176(%%rdx)\n kmovq %%k2, 2184(%%rdx)\n kmovq %%k7, 2192(%%rdx)\n"
        GODWIT_STORE_GENERAL ".noaltmacro\n vzeroupper\n add $256, %%rsp\n"
        : "+c"(count)
        : "a"(&in), "d"(&out)
        : GODWIT_GENERAL_CLOBBERS, "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7",
          "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17",
          "xmm18", "xmm19", "xmm20", "xmm21", "xmm22", "xmm23", "xmm24", "xmm25", "xmm26", "xmm27",
          "xmm28", "xmm29", "xmm30", "xmm31", "k1", "k2", "k7");
}
static_assert(offsetof(Registers, vectors) == 80 + 48 || offsetof(Registers, vectors) == 80);

}  // namespace
}  // namespace godwit
