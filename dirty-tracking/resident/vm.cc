#include "dirty-tracking/resident/vm.h"

#include "dirty-tracking/resident/kvm_log.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/slots.h"
#include "dirty-tracking/resident/state.h"
#include "dirty-tracking/resident/vcpus.h"

namespace godwit::resident {

// One VM is followed, the newest: an earlier one was a probe. If it had RAM, its slots are
// forgotten by a reason that the agent is told.
int create_vm(int kvm, unsigned long request, void* argument) {
    const int vm = next_ioctl(kvm, request, argument);
    if (vm < 0) return vm;
    const KeepErrno keep;
    {
        const Guard guard(g_state.lock);
        const bool second = g_state.vm >= 0 && g_state.vm != vm && g_state.slot_end != 0;
        if (second) {
            note_problem(true, "this process made a second VM");
            stop_log();
            return vm;
        }
        forget_slots();
        forget_vcpus();
        g_state.problem[0] = 0;
        g_state.problem_for_good = false;
        g_state.manual_protect = g_state.initially_set = g_state.dirty_ring = false;
        g_state.vm = vm;
    }
    return vm;
}

int enable_capability(int vm, unsigned long request, void* argument) {
    const int result = next_ioctl(vm, request, argument);
    if (result != 0) return result;
    const auto* capability = static_cast<const kvm_enable_cap*>(argument);
    const Guard guard(g_state.lock);
    if (vm != g_state.vm) return result;
    if (capability->cap == KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2) {
        g_state.manual_protect = (capability->args[0] & KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE) != 0;
        g_state.initially_set = (capability->args[0] & KVM_DIRTY_LOG_INITIALLY_SET) != 0;
    }
    if (capability->cap == KVM_CAP_DIRTY_LOG_RING ||
        capability->cap == KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
        g_state.dirty_ring = true;
    return result;
}

}  // namespace godwit::resident
