// What the thread of attach_target does while it is attached to.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace godwit {

// Null when everything is as it was, else what is not. Loads a pattern into every general and
// vector register that the CPU has (AVX-512, AVX or SSE), spins, and looks at them.
const char* spin_with_full_registers(uint64_t iterations);

// A virtual machine that only counts, in real mode.
class CountingVm {
  public:
    // False without a usable /dev/kvm.
    bool create();
    // One KVM_RUN. Null, or what went wrong; EINTR is right.
    const char* run();
    [[nodiscard]] uint16_t count() const;

  private:
    int vcpu_ = -1;
    void* run_ = nullptr;
    uint8_t* memory_ = nullptr;
};

}  // namespace godwit
