// libgodwit-resident.so: what it stands in front of, and how it begins. Without a socket from the
// agent every call is passed on untouched.
#include <linux/kvm.h>
#include <pthread.h>
#include <sys/types.h>

#include <cstdarg>
#include <cstddef>
#include <cstdint>

#include "dirty-tracking/resident/discards.h"
#include "dirty-tracking/resident/environment.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/qemu_log.h"
#include "dirty-tracking/resident/server.h"
#include "dirty-tracking/resident/sigbus.h"
#include "dirty-tracking/resident/slots.h"
#include "dirty-tracking/resident/state.h"
#include "dirty-tracking/resident/vcpus.h"
#include "dirty-tracking/resident/vm.h"

using namespace godwit::resident;

namespace {

// By the kernel's documentation; Debian 12's headers are older.
constexpr uint32_t kSetUserMemoryRegion2 = 0x40a0ae49;

bool active() { return g_state.active.load(std::memory_order_relaxed); }

void after_fork_in_child() {
    abandon_after_fork();
    server_lost();
}

int passive_ioctl(int fd, unsigned long request, void* argument) {
    if (static_cast<uint32_t>(request) != KVM_CREATE_VM || !restart_server())
        return next_ioctl(fd, request, argument);
    g_state.active.store(true);
    return create_vm(fd, request, argument);
}

__attribute__((constructor)) void begin() {
    find_next_functions();
    int listener = inherited_listener();
    if (listener < 0) listener = listener_at_path();
    hide_from_children();
    if (listener < 0 || !prepare_throttle()) return;
    if (!start_server(listener)) return;
    pthread_atfork(nullptr, nullptr, after_fork_in_child);
    g_state.active.store(true);
}

}  // namespace

#define GODWIT_INTERPOSED extern "C" __attribute__((visibility("default")))

// KVM's requests are compared in 32 bits: QEMU hands them over as int, which extends the sign.
GODWIT_INTERPOSED int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void* argument = va_arg(arguments, void*);
    va_end(arguments);
    if (!active()) return passive_ioctl(fd, request, argument);
    switch (static_cast<uint32_t>(request)) {
        case KVM_RUN:
            return run_vcpu(fd, request, argument);
        case KVM_CREATE_VM:
            return create_vm(fd, request, argument);
        case KVM_CREATE_VCPU:
            return create_vcpu(fd, request, argument);
        case KVM_ENABLE_CAP:
            return enable_capability(fd, request, argument);
        case KVM_SET_USER_MEMORY_REGION:
        case kSetUserMemoryRegion2:
            return set_memory_region(fd, request, argument);
        case KVM_GET_DIRTY_LOG:
            return get_dirty_log(fd, request, static_cast<kvm_dirty_log*>(argument));
        case KVM_CLEAR_DIRTY_LOG:
            return clear_dirty_log(fd, request, static_cast<kvm_clear_dirty_log*>(argument));
        default:
            return next_ioctl(fd, request, argument);
    }
}

GODWIT_INTERPOSED int fallocate(int fd, int mode, off_t offset, off_t length) {
    return active() ? discarding_fallocate(fd, mode, offset, length)
                    : next_fallocate(fd, mode, offset, length);
}

GODWIT_INTERPOSED int fallocate64(int fd, int mode, off_t offset, off_t length) {
    return fallocate(fd, mode, offset, length);
}

GODWIT_INTERPOSED int madvise(void* address, size_t length, int advice) {
    return active() ? discarding_madvise(address, length, advice)
                    : next_madvise(address, length, advice);
}

GODWIT_INTERPOSED int sigaction(int signal, const struct sigaction* action, struct sigaction* old) {
    return active() && signal == SIGBUS ? wrap_sigbus(action, old)
                                        : next_sigaction(signal, action, old);
}
