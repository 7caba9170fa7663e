#include "dirty-tracking/resident/sigbus.h"

#include <atomic>
#include <cstdint>

#include "dirty-tracking/resident/address.h"
#include "dirty-tracking/resident/next.h"
#include "dirty-tracking/resident/state.h"

namespace godwit::resident {
namespace {

using Handler = void (*)(int, siginfo_t*, void*);

std::atomic<Handler> g_theirs{nullptr};

// Without the lock: this is a signal handler. A view's length is set last and cleared first.
void* in_view_b(void* at) {
    const auto address = reinterpret_cast<uint64_t>(at);
    for (const View& view : g_state.views) {
        const uint64_t length = view.length.load(std::memory_order_acquire);
        if (length != 0 && address >= view.kvm_address && address - view.kvm_address < length)
            return pointer_to(address - view.kvm_address + view.qemu_address);
    }
    return at;
}

void translate(int signal, siginfo_t* info, void* context) {
    // From a process (kill, sigqueue) there is no address in it.
    if (info->si_code > 0) info->si_addr = in_view_b(info->si_addr);
    if (const Handler theirs = g_theirs.load()) theirs(signal, info, context);
}

}  // namespace

int wrap_sigbus(const struct sigaction* action, struct sigaction* old) {
    const Handler before = g_theirs.load();
    struct sigaction ours {};
    const bool wrapped = action != nullptr && (action->sa_flags & SA_SIGINFO) != 0;
    if (wrapped) {
        ours = *action;
        ours.sa_sigaction = translate;
        // First, so that the handler finds it as soon as it is installed.
        g_theirs.store(action->sa_sigaction);
    }
    const int result = next_sigaction(SIGBUS, wrapped ? &ours : action, old);
    if (result != 0) {
        g_theirs.store(before);
    } else if (old != nullptr && (old->sa_flags & SA_SIGINFO) != 0 &&
               old->sa_sigaction == translate) {
        old->sa_sigaction = before;
    }
    return result;
}

}  // namespace godwit::resident
