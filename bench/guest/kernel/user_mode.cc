#include "bench/guest/kernel/user_mode.h"

#include <cstddef>
#include <cstdint>

#include "bench/guest/mailbox_layout.h"

extern "C" {
extern uint64_t gdt[];  // boot.S
void drop_to_ring3();
}

namespace godwit::guest {
namespace {

// Intel SDM volume 3, "Task management in 64-bit mode".
struct [[gnu::packed]] TaskState {
    uint32_t reserved;
    uint64_t ring0_stack;
    uint64_t other_stacks[11];
    uint16_t reserved2;
    uint16_t io_map_offset;
    uint8_t io_map[8192];  // zero bits: every port is allowed
    uint8_t io_map_end;    // must be 0xff
};
static_assert(sizeof(TaskState) == 104 + 8193);

constexpr unsigned kFirstTaskSelector = 0x30;
constexpr uint64_t kAvailableTask = uint64_t{0x89} << 40;

alignas(16) TaskState tasks[kMaxVcpus];
alignas(16) uint8_t exception_stacks[kMaxVcpus][4096];

}  // namespace

void enter_user_mode(unsigned vcpu) {
    TaskState& task = tasks[vcpu];
    task.ring0_stack = reinterpret_cast<uint64_t>(exception_stacks[vcpu] + 4096);
    task.io_map_offset = offsetof(TaskState, io_map);
    // Not by IOPL 3, which the KVM in question ignores.
    task.io_map_end = 0xff;
    const auto base = reinterpret_cast<uint64_t>(&task);
    const unsigned selector = kFirstTaskSelector + 16 * vcpu;
    gdt[selector / 8] =
        (sizeof task - 1) | (base & 0xffffff) << 16 | kAvailableTask | (base >> 24 & 0xff) << 56;
    gdt[selector / 8 + 1] = base >> 32;
    asm volatile("ltr %w0" ::"r"(selector));
    drop_to_ring3();
}

}  // namespace godwit::guest
