// KVM and the other functions that the resident stands in front of, played by the test: a kernel
// that can refuse, and that has what this machine's may not have (a second address space).
#pragma once

#include <linux/kvm.h>

#include <cstdint>
#include <functional>
#include <map>
#include <set>

namespace godwit {

struct FakeSlot {
    kvm_userspace_memory_region region{};
    std::set<uint64_t> dirty;
    [[nodiscard]] bool logs() const { return (region.flags & KVM_MEM_LOG_DIRTY_PAGES) != 0; }
};

struct FakeKernel {
    static constexpr int kVm = 1000;
    bool initially_set = true;
    bool has_map_queries = true;  // the real kernel's PROCMAP_QUERY; else it is one without
    uint64_t map_queries = 0;
    std::map<uint32_t, FakeSlot> slots;
    // Asked before each call: 0, or the errno that it fails with.
    std::function<int(unsigned long request, const void* argument)> refuse;
    uint64_t clears = 0;         // KVM_CLEAR_DIRTY_LOG calls
    uint64_t longest_clear = 0;  // pages

    // A vCPU's write, through whatever slot.
    void write(uint32_t slot, uint64_t page);
};

// The one that next_ioctl() calls.
FakeKernel& fake_kernel();

}  // namespace godwit
