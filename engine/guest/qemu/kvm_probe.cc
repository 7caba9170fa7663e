#include "engine/guest/qemu/kvm_probe.h"

#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>

#include <array>
#include <cstdint>
#include <memory>

#include "engine/base/unique_fd.h"

namespace godwit {
namespace {

constexpr uint32_t kArchCapabilitiesMsr = 0x10a;
constexpr uint32_t kMaxCpuidEntries = 256;  // KVM's own KVM_MAX_CPUID_ENTRIES

// The kernel's own structures end in flexible arrays whose C++ layout differs from C's, and with it
// the size in the ioctl's number: so these two stand in.
struct OneMsr {
    uint32_t count = 1;
    uint32_t padding = 0;
    kvm_msr_entry entry{};
};
struct Cpuid {
    uint32_t count = kMaxCpuidEntries;
    uint32_t padding = 0;
    std::array<kvm_cpuid_entry2, kMaxCpuidEntries> entries{};
};
constexpr size_t kHeaderBytes = 8;
constexpr unsigned long kGetMsrs = _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x88, kHeaderBytes);
constexpr unsigned long kSetMsrs = _IOC(_IOC_WRITE, KVMIO, 0x89, kHeaderBytes);
constexpr unsigned long kGetSupportedCpuid =
    _IOC(_IOC_READ | _IOC_WRITE, KVMIO, 0x05, kHeaderBytes);
constexpr unsigned long kSetCpuid = _IOC(_IOC_WRITE, KVMIO, 0x90, kHeaderBytes);

// Gives a new vCPU all that KVM says it supports, then sets the MSR to KVM's own value of it.
bool takes_arch_capabilities(int kvm) {
    const UniqueFd vm(::ioctl(kvm, KVM_CREATE_VM, 0));
    const UniqueFd vcpu(vm.valid() ? ::ioctl(vm.get(), KVM_CREATE_VCPU, 0) : -1);
    if (!vcpu.valid()) return true;  // QEMU will say it better
    OneMsr msr;
    msr.entry.index = kArchCapabilitiesMsr;
    // Where KVM does not offer the MSR, QEMU does not set it.
    if (::ioctl(kvm, kGetMsrs, &msr) != 1) return true;
    const auto cpuid = std::make_unique<Cpuid>();
    if (::ioctl(kvm, kGetSupportedCpuid, cpuid.get()) != 0 ||
        ::ioctl(vcpu.get(), kSetCpuid, cpuid.get()) != 0)
        return true;
    return ::ioctl(vcpu.get(), kSetMsrs, &msr) == 1;
}

}  // namespace

bool probe_kvm() {
    const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    return kvm.valid() && ::ioctl(kvm.get(), KVM_GET_API_VERSION, 0) == KVM_API_VERSION;
}

std::string default_kvm_cpu() {
    const UniqueFd kvm(::open("/dev/kvm", O_RDWR | O_CLOEXEC));
    return kvm.valid() && !takes_arch_capabilities(kvm.get()) ? "host,-arch-capabilities" : "host";
}

}  // namespace godwit
