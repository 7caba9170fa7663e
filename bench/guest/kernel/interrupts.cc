#include "bench/guest/kernel/interrupts.h"

#include "bench/guest/kernel/cpu.h"
#include "bench/guest/kernel/memory_map.h"

extern "C" {
extern const char ap_trampoline[], ap_trampoline_end[];  // boot.S
extern const char exception_stubs[], timer_stub[], spurious_stub[], halt_stub[];
void* memcpy(void* to, const void* from, __SIZE_TYPE__ size);
}

namespace godwit::guest {
namespace {

// Intel SDM volume 3, chapter "Advanced programmable interrupt controller".
constexpr uint64_t kApic = 0xfee00000;
constexpr uint64_t kTaskPriority = kApic + 0x80;
constexpr uint64_t kSpurious = kApic + 0xf0;
constexpr uint64_t kCommandLow = kApic + 0x300;
constexpr uint64_t kTimerVector = kApic + 0x320;
constexpr uint64_t kTimerInitial = kApic + 0x380;
constexpr uint64_t kTimerCurrent = kApic + 0x390;
constexpr uint64_t kTimerDivide = kApic + 0x3e0;
constexpr uint32_t kApicEnable = 0x100;
constexpr uint32_t kPeriodic = 1u << 17;
constexpr uint32_t kMasked = 1u << 16;
constexpr uint32_t kDivideBy16 = 3;
constexpr uint32_t kInitAllOthers = 0x000c4500;
constexpr uint32_t kStartAllOthers = 0x000c4600;  // low byte: page of the trampoline
constexpr uint32_t kDeliveryPending = 1u << 12;

constexpr unsigned kTimer = 0x40;
constexpr unsigned kProtectionFault = 13;
constexpr unsigned kSpuriousVector = 0xff;

struct [[gnu::packed]] Gate {
    uint16_t offset_low, selector;
    uint8_t stack, type;
    uint16_t offset_middle;
    uint32_t offset_high, zero;
};
alignas(16) Gate gates[256];

void set_gate(unsigned vector, const char* handler) {
    const auto at = reinterpret_cast<uint64_t>(handler);
    gates[vector] = {
        static_cast<uint16_t>(at),       0x08, 0, 0x8e, static_cast<uint16_t>(at >> 16),
        static_cast<uint32_t>(at >> 32), 0};
}

void wait_us(uint64_t microseconds, uint64_t tsc_hz) {
    const uint64_t begin = read_tsc();
    while (read_tsc() - begin < tsc_hz / 1'000'000 * microseconds) cpu_pause();
}

void send(uint32_t command) {
    mmio_write<uint32_t>(kCommandLow, command);
    while ((mmio_read<uint32_t>(kCommandLow) & kDeliveryPending) != 0) cpu_pause();
}

}  // namespace

void prepare_interrupts() {
    for (unsigned vector = 0; vector < 32; ++vector)
        set_gate(vector, exception_stubs + 16 * vector);
    for (unsigned vector = 32; vector < 256; ++vector) set_gate(vector, spurious_stub);
    set_gate(kTimer, timer_stub);
    set_gate(kProtectionFault, halt_stub);
    // Both legacy controllers away from the exceptions' vectors, and every line masked.
    out8(0x20, 0x11), out8(0xa0, 0x11);
    out8(0x21, 0x20), out8(0xa1, 0x28);
    out8(0x21, 4), out8(0xa1, 2);
    out8(0x21, 1), out8(0xa1, 1);
    out8(0x21, 0xff), out8(0xa1, 0xff);
}

void enable_interrupts_here() {
    const struct [[gnu::packed]] {
        uint16_t limit;
        uint64_t base;
    } pointer = {sizeof gates - 1, reinterpret_cast<uint64_t>(gates)};
    asm volatile("lidt %0" ::"m"(pointer));
    mmio_write<uint32_t>(kTaskPriority, 0);
    mmio_write<uint32_t>(kSpurious, kApicEnable | kSpuriousVector);
}

void start_timer_here(uint64_t per_second, uint64_t tsc_hz) {
    mmio_write<uint32_t>(kTimerDivide, kDivideBy16);
    mmio_write<uint32_t>(kTimerVector, kMasked);
    mmio_write<uint32_t>(kTimerInitial, ~0u);
    wait_us(2000, tsc_hz);
    const uint32_t ticks_in_2_ms = ~0u - mmio_read<uint32_t>(kTimerCurrent);
    mmio_write<uint32_t>(kTimerVector, kPeriodic | kTimer);
    mmio_write<uint32_t>(kTimerInitial,
                         static_cast<uint32_t>(ticks_in_2_ms * uint64_t{500} / per_second));
}

void start_other_cpus(uint64_t tsc_hz) {
    memcpy(reinterpret_cast<void*>(kTrampolineAddress), ap_trampoline,
           static_cast<unsigned long>(ap_trampoline_end - ap_trampoline));
    send(kInitAllOthers);
    wait_us(10'000, tsc_hz);
    // Once only: a second SIPI is for hardware that may lose the first.
    send(kStartAllOthers | static_cast<uint32_t>(kTrampolineAddress >> 12));
}

}  // namespace godwit::guest
