#include "engine/postcopy/realtime.h"

#include <sched.h>

namespace godwit {

bool run_realtime() {
    const sched_param parameters{.sched_priority = ::sched_get_priority_min(SCHED_FIFO)};
    // What the thread starts, threads and programs, does not inherit it.
    return ::sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &parameters) == 0;
}

void run_as_others() {
    const sched_param parameters{};
    ::sched_setscheduler(0, SCHED_OTHER, &parameters);
}

}  // namespace godwit
