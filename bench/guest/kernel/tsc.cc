#include "bench/guest/kernel/tsc.h"

#include "bench/guest/kernel/cpu.h"

namespace godwit::guest {
namespace {

constexpr uint32_t kHypervisorLeaves = 0x40000000;
constexpr uint32_t kHypervisorTscLeaf = 0x40000010;  // EAX: TSC in kHz (VMware's, KVM's)
constexpr uint32_t kTscLeaf = 0x15;                  // EBX/EAX: TSC per crystal tick; ECX: its Hz
constexpr uint64_t kPeriodsPerSecond = 64;

// TSC ticks in one period of PIT channel 2 in one-shot mode.
uint64_t tsc_per_period() {
    constexpr uint16_t kCount = 1193182 / kPeriodsPerSecond;
    const uint8_t gate = in8(0x61) & 0xfc;
    out8(0x61, gate);
    out8(0x43, 0xb0);  // channel 2, both bytes, mode 0
    out8(0x42, kCount & 0xff);
    out8(0x42, kCount >> 8);
    const uint64_t begin = read_tsc();
    out8(0x61, gate | 1);  // counting starts
    while ((in8(0x61) & 0x20) == 0) cpu_pause();
    return read_tsc() - begin;
}

}  // namespace

uint64_t tsc_hz_by_cpuid() {
    if ((cpuid(1).ecx >> 31 & 1) != 0 && cpuid(kHypervisorLeaves).eax >= kHypervisorTscLeaf) {
        const uint64_t khz = cpuid(kHypervisorTscLeaf).eax;
        if (khz != 0) return khz * 1000;
    }
    if (cpuid(0).eax < kTscLeaf) return 0;
    const CpuidResult leaf = cpuid(kTscLeaf);
    if (leaf.eax == 0 || leaf.ebx == 0 || leaf.ecx == 0) return 0;
    return uint64_t{leaf.ecx} * leaf.ebx / leaf.eax;
}

uint64_t measure_tsc_hz() {
    // The host may deschedule us, which only ever lengthens a measurement: keep the shorter one.
    const uint64_t first = tsc_per_period();
    const uint64_t second = tsc_per_period();
    return (first < second ? first : second) * kPeriodsPerSecond;
}

}  // namespace godwit::guest
