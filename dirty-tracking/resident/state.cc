#include "dirty-tracking/resident/state.h"

#include <cstdarg>
#include <cstdio>

namespace godwit::resident {

constinit State g_state;

void abandon_after_fork() {
    g_state.active.store(false);
    g_state.watching.store(false);
    g_state.lock.reset();
    g_state.vm = -1;
    for (View& view : g_state.views) view.length.store(0);
    for (Vcpu& vcpu : g_state.vcpus) {
        vcpu.fd.store(-1);
        vcpu.run = nullptr;
    }
    g_state.log.memory = nullptr;
    g_state.log.on = false;
}

void note_problem(bool for_good, const char* format, ...) {
    if (g_state.problem[0] != 0 && (g_state.problem_for_good || !for_good)) return;
    va_list arguments;
    va_start(arguments, format);
    // NOLINTNEXTLINE(clang-analyzer-valist.Uninitialized): va_start is one line up
    vsnprintf(g_state.problem, sizeof g_state.problem, format, arguments);
    va_end(arguments);
    g_state.problem_for_good = for_good;
}

}  // namespace godwit::resident
