// All that the resident knows: fixed tables, under one lock where nothing else is said.
#pragma once

#include <linux/kvm.h>

#include <atomic>
#include <cstdint>

#include "dirty-tracking/resident/bitmap.h"
#include "dirty-tracking/resident/lock.h"
#include "dirty-tracking/resident/protocol.h"

namespace godwit::resident {

// QEMU has 30 to 60 slots, and one for each memory region of hotplug; KVM allows 32,764.
inline constexpr uint32_t kSlotLimit = 1024;
// One for each RAM file and mapping of it.
inline constexpr uint32_t kViewLimit = 64;
inline constexpr uint32_t kVcpuLimit = 1024;
// Mappings of the logged files: two views each, and what they were split into.
inline constexpr uint32_t kMappingLimit = 512;

struct Slot {
    bool used = false;
    SlotKind kind = SlotKind::kNotRam;
    uint32_t id = 0;
    uint32_t qemu_flags = 0;
    uint32_t kernel_flags = 0;  // QEMU's, and KVM_MEM_LOG_DIRTY_PAGES while we log
    uint64_t guest_address = 0;
    uint64_t length = 0;
    uint64_t qemu_address = 0;
    uint64_t kernel_address = 0;
    uint64_t device = 0;  // of the file, for kSplit
    uint64_t inode = 0;
    uint64_t offset = 0;
    int block = -1;  // of the log that is on
    Bitmap raw;      // KVM's log as it was last read, less what was cleared since
    Bitmap owed;     // cleared by us while QEMU logs this slot too, and not yet shown to it

    [[nodiscard]] uint64_t page_count() const { return length / kPageSize; }
    [[nodiscard]] uint64_t first_file_page() const { return offset / kPageSize; }
    [[nodiscard]] bool logged_by_qemu() const {
        return (qemu_flags & KVM_MEM_LOG_DIRTY_PAGES) != 0;
    }
};

// The same bytes of a file at two addresses. Read without the lock by the SIGBUS handler: length
// is written last when a view begins and first when it ends.
struct View {
    std::atomic<uint64_t> length{0};  // 0: a free entry
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t offset = 0;
    uint64_t kvm_address = 0;   // A
    uint64_t qemu_address = 0;  // B
};

// Read without the lock by the thread that runs it: `fd` is written last.
struct Vcpu {
    std::atomic<int> fd{-1};
    std::atomic<int> thread{0};       // of its last KVM_RUN
    std::atomic<bool> inside{false};  // KVM_RUN
    kvm_run* run = nullptr;
};

struct Block {
    uint64_t device = 0;
    uint64_t inode = 0;
    uint64_t page_count = 0;
    uint64_t* dirty = nullptr;  // in the agent's memory
};

// A mapping of a logged file in this process.
struct Mapping {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t offset = 0;
    uint32_t block = 0;
};

struct Log {
    bool on = false;
    bool discards_only = false;
    void* memory = nullptr;
    uint64_t bytes = 0;
    uint32_t block_count = 0;
    uint32_t mapping_count = 0;
    Block blocks[kBlockLimit];
    Mapping mappings[kMappingLimit];
};

struct State {
    Lock lock;
    // Whether anything is interposed at all.
    std::atomic<bool> active{false};
    // Whether discards have to be looked at.
    std::atomic<bool> watching{false};

    int vm = -1;
    bool manual_protect = false;
    bool initially_set = false;
    bool dirty_ring = false;

    Slot slots[kSlotLimit];
    uint32_t slot_end = 0;  // no slot is used from here on
    View views[kViewLimit];
    Vcpu vcpus[kVcpuLimit];
    std::atomic<uint32_t> vcpu_count{0};
    Log log;
    // Why the log can't be used (since the last start, or for good); empty: it can.
    char problem[kTextBytes] = {};
    bool problem_for_good = false;
};

extern constinit State g_state;  // NOLINT(bugprone-dynamic-static-initializers): constinit

// In a child process, which has neither the lock's holder nor the mappings that are not passed on.
void abandon_after_fork();

// Printf into state.problem. The first one stays, unless it ends with the log and the new one does
// not.
void note_problem(bool for_good, const char* format, ...) __attribute__((format(printf, 2, 3)));

}  // namespace godwit::resident
