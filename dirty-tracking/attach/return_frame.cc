#include "dirty-tracking/attach/return_frame.h"

#include <cpuid.h>
#include <sys/ucontext.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstring>

namespace godwit {
namespace {

// Results of interrupted calls that user space never sees (Linux, include/linux/errno.h).
constexpr int64_t kRestartSys = -512;
constexpr int64_t kRestartNoIntr = -513;
constexpr int64_t kRestartNoHandler = -514;
constexpr int64_t kRestartBlock = -516;

constexpr uint64_t kRedZone = 128;  // System V ABI for x86-64, 3.2.2
constexpr uint64_t kSyscallInstructionBytes = 2;

// The vector state in a signal frame (arch/x86/include/uapi/asm/sigcontext.h): the legacy area
// has 48 bytes for software, with two magic numbers around what XSAVE wrote.
constexpr size_t kLegacyBytes = 512;
constexpr size_t kSoftwareOffset = 464;
constexpr size_t kHeaderBytes = 64;
constexpr uint32_t kMagicFirst = 0x46505853;
constexpr uint32_t kMagicSecond = 0x46505845;
constexpr uint64_t kLegacyFeatures = 3;  // x87 and SSE

struct SoftwareBytes {
    uint32_t magic = kMagicFirst;
    uint32_t size_with_magic = 0;
    uint64_t features = 0;
    uint32_t size = 0;
    std::array<uint32_t, 7> padding{};
};
static_assert(sizeof(SoftwareBytes) == 48);

constexpr uint64_t kFlagVectorState = 1;  // UC_FP_XSTATE
constexpr uint64_t kFlagHasSs = 2;        // UC_SIGCONTEXT_SS
constexpr uint64_t kFlagStrictSs = 4;     // UC_STRICT_RESTORE_SS
// No such flag exists: the kernel refuses to change the alternate stack and goes on. We can't
// know what it is now, so that is what we want.
constexpr int kKeepAlternateStack = 0x40;

// As rt_sigreturn reads it: the C library's ucontext_t begins like the kernel's.
constexpr size_t kContextBytes = offsetof(ucontext_t, uc_sigmask) + sizeof(uint64_t);

// Bytes of XSAVE's standard form that hold the given features (CPUID leaf 13).
size_t vector_state_bytes(uint64_t features) {
    size_t size = kLegacyBytes + kHeaderBytes;
    for (unsigned feature = 2; feature < 63; ++feature) {
        if ((features >> feature & 1) == 0) continue;
        unsigned bytes = 0;
        unsigned offset = 0;
        unsigned flags = 0;
        unsigned unused = 0;
        if (__get_cpuid_count(13, feature, &bytes, &offset, &flags, &unused) == 0) return 0;
        size = std::max<size_t>(size, offset + bytes);
    }
    return size;
}

void store_registers(const user_regs_struct& from, uint64_t restart_number, ucontext_t& context) {
    auto& to = context.uc_mcontext.gregs;
    const auto set = [&to](int index, uint64_t value) { to[index] = static_cast<greg_t>(value); };
    set(REG_R8, from.r8), set(REG_R9, from.r9), set(REG_R10, from.r10), set(REG_R11, from.r11);
    set(REG_R12, from.r12), set(REG_R13, from.r13), set(REG_R14, from.r14), set(REG_R15, from.r15);
    set(REG_RDI, from.rdi), set(REG_RSI, from.rsi), set(REG_RBP, from.rbp), set(REG_RBX, from.rbx);
    set(REG_RDX, from.rdx), set(REG_RCX, from.rcx), set(REG_RSP, from.rsp);
    set(REG_EFL, from.eflags);
    set(REG_CSGSFS, (from.cs & 0xffff) | (from.ss & 0xffff) << 48);
    const bool restart = restarts_call(from);
    set(REG_RAX, restart ? restart_number : from.rax);
    set(REG_RIP, restart ? from.rip - kSyscallInstructionBytes : from.rip);
}

}  // namespace

bool restarts_call(const user_regs_struct& registers) {
    if (static_cast<int64_t>(registers.orig_rax) < 0) return false;
    const auto result = static_cast<int64_t>(registers.rax);
    return result == kRestartSys || result == kRestartNoIntr || result == kRestartNoHandler ||
           result == kRestartBlock;
}

absl::Status build_return_frame(const ThreadState& state, uint64_t restart_number,
                                uint64_t restore_gadget, ReturnFrame& frame) {
    const size_t given = state.vector_state.size();
    uint64_t features = 0;
    if (given >= kLegacyBytes + kHeaderBytes)
        std::memcpy(&features, state.vector_state.data() + kLegacyBytes, sizeof features);
    const size_t size = vector_state_bytes(features);
    if (given < kLegacyBytes + kHeaderBytes || size == 0 || size > given)
        return absl::UnimplementedError("the vector state of this CPU has an unknown form");

    const uint64_t top = state.registers.rsp - kRedZone;
    const uint64_t vectors = (top - given - sizeof kMagicSecond) & ~uint64_t{63};
    // As the kernel lays it out: the stack is 16-byte aligned before a return address is pushed.
    frame.address = ((vectors - sizeof(uint64_t) - kContextBytes) & ~uint64_t{15}) - 8;
    frame.bytes.assign(vectors - frame.address + given + sizeof kMagicSecond, std::byte{0});

    ucontext_t context{};
    context.uc_flags = kFlagVectorState | kFlagHasSs | kFlagStrictSs;
    context.uc_stack.ss_flags = kKeepAlternateStack;
    store_registers(state.registers, restart_number, context);
    std::memcpy(&context.uc_mcontext.fpregs, &vectors, sizeof vectors);  // an address over there
    std::memcpy(&context.uc_sigmask, &state.blocked_signals, sizeof state.blocked_signals);

    // What has no bit in the header is in its initial state: the kernel sets it so.
    SoftwareBytes software;
    software.size = static_cast<uint32_t>(size);
    software.size_with_magic = static_cast<uint32_t>(size + sizeof kMagicSecond);
    software.features = features | kLegacyFeatures;

    std::byte* out = frame.bytes.data();
    std::memcpy(out, &restore_gadget, sizeof restore_gadget);
    std::memcpy(out + sizeof restore_gadget, &context, kContextBytes);
    out += vectors - frame.address;
    std::memcpy(out, state.vector_state.data(), size);
    std::memcpy(out + kSoftwareOffset, &software, sizeof software);
    std::memcpy(out + size, &kMagicSecond, sizeof kMagicSecond);
    return absl::OkStatus();
}

}  // namespace godwit
