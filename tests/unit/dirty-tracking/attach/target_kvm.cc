#include <fcntl.h>
#include <linux/kvm.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

#include <cerrno>
#include <cstring>

#include "tests/unit/dirty-tracking/attach/target_modes.h"

namespace godwit {
namespace {

constexpr size_t kMemoryBytes = 0x4000;
constexpr uint64_t kCodeAddress = 0x1000;
constexpr size_t kCounterAddress = 0x2000;
// 1: incw 0x2000; jmp 1b
constexpr uint8_t kCode[] = {0xff, 0x06, 0x00, 0x20, 0xeb, 0xfa};

}  // namespace

bool CountingVm::create() {
    const int kvm = ::open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (kvm < 0) return false;
    const int vm = ::ioctl(kvm, KVM_CREATE_VM, 0);
    if (vm < 0) return false;
    memory_ = static_cast<uint8_t*>(
        ::mmap(nullptr, kMemoryBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    std::memcpy(memory_ + kCodeAddress, kCode, sizeof kCode);
    kvm_userspace_memory_region region{};
    region.memory_size = kMemoryBytes;
    region.userspace_addr = reinterpret_cast<uint64_t>(memory_);
    if (::ioctl(vm, KVM_SET_USER_MEMORY_REGION, &region) != 0) return false;
    vcpu_ = ::ioctl(vm, KVM_CREATE_VCPU, 0);
    if (vcpu_ < 0) return false;
    const int run_bytes = ::ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    run_ = ::mmap(nullptr, static_cast<size_t>(run_bytes), PROT_READ | PROT_WRITE, MAP_SHARED,
                  vcpu_, 0);
    kvm_sregs segments{};
    if (::ioctl(vcpu_, KVM_GET_SREGS, &segments) != 0) return false;
    segments.cs.base = 0;
    segments.cs.selector = 0;
    kvm_regs registers{};
    registers.rip = kCodeAddress;
    registers.rflags = 2;
    return ::ioctl(vcpu_, KVM_SET_SREGS, &segments) == 0 &&
           ::ioctl(vcpu_, KVM_SET_REGS, &registers) == 0;
}

const char* CountingVm::run() {
    if (::ioctl(vcpu_, KVM_RUN, 0) == 0) return "the guest left its loop";
    return errno == EINTR ? nullptr : "KVM_RUN failed";
}

uint16_t CountingVm::count() const {
    return *reinterpret_cast<const volatile uint16_t*>(memory_ + kCounterAddress);
}

}  // namespace godwit
